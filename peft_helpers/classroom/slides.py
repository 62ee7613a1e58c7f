"""A deck of slides from a lesson's tagged cells: one HTML file that needs no network."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_helpers.classroom import formulas, guide
from peft_helpers.classroom.exercises import source, tags

TEMPLATE = Path(__file__).parent / "deck.html"
WORDS = 70  # on a slide; what follows goes into the notes
CODE_LINES = 25
PRINTED_LINES = 14  # under a measured answer


@dataclass(frozen=True)
class Slide:
    """One slide; `body` and `notes` are HTML, `kind` is the tag it was made from."""

    kind: str
    title: str
    body: str
    notes: str = ""

    def as_html(self) -> str:
        """The slide as a section of the page."""
        notes = f"<aside>{self.notes}</aside>" if self.notes else ""
        heading = f"<h2>{inline(self.title)}</h2>" if self.title else ""
        return f'<section class="{self.kind}"><div class="kind">{self.kind}</div>{heading}{self.body}{notes}</section>'


def deck(notebook: dict[str, Any]) -> str:
    """The whole page."""
    title = notebook["metadata"]["peft_course"]["title"]
    pages = "\n".join(slide.as_html() for slide in slides(notebook))
    text = TEMPLATE.read_text(encoding="utf-8")
    return text.replace("<!-- TITLE -->", html.escape(title)).replace("<!-- SLIDES -->", pages)


def slides(notebook: dict[str, Any]) -> Iterator[Slide]:
    """The slides of a lesson's core cells, in order."""
    asked = _Asked()
    for cell in notebook["cells"]:
        if "core" in tags(cell):
            yield from _of_cell(cell, notebook)
            yield from asked.answers(cell)


class _Asked:
    """Which predictions were asked, and what was printed since: an answer is shown with both."""

    def __init__(self) -> None:
        self.questions: dict[str, str] = {}
        self.printed = ""

    def answers(self, cell: dict[str, Any]) -> Iterator[Slide]:
        """The slides of what this cell's outcomes say; predictions and prints are remembered."""
        if cell["cell_type"] != "code":
            return
        shown = guide.shown_text(cell)
        if keys := guide.keys(cell, "predict"):
            found = re.findall(r"^Predict: (.*)", shown, flags=re.MULTILINE)
            self.questions |= dict(zip(keys, found, strict=False))
            self.printed = ""
        self.printed += "".join(
            "".join(o.get("text", "")) for o in cell.get("outputs", []) if o.get("name") == "stdout"
        )
        results = re.findall(r"^Measured: (.*)\. You (?:did not commit|predicted)", shown, flags=re.MULTILINE)
        for key, result in zip(guide.keys(cell, "outcome"), results, strict=False):
            lines = self.printed.rstrip().splitlines()
            block = f"<pre>{html.escape(chr(10).join(lines[-PRINTED_LINES:]))}</pre>" if lines else ""
            question = f"<p>{html.escape(self.questions.get(key, ''))}</p>"
            yield Slide("measured", "", f"{question}<h2>{html.escape(result)}</h2>{block}")


def _of_cell(cell: dict[str, Any], notebook: dict[str, Any]) -> Iterator[Slide]:
    kinds, text = set(tags(cell)), source(cell)
    if "header" in kinds:
        about = notebook["metadata"]["peft_course"]
        goals = "".join(f"<li>{inline(goal)}</li>" for goal in guide.objectives(notebook))
        yield Slide("title", "", f"<h1>{html.escape(about['title'])}</h1><p>{inline(about['question'])}</p>")
        yield Slide("objectives", "After this lesson", f"<ol>{goals}</ol>")
    elif cell["cell_type"] == "markdown":
        yield from _of_text(text, kinds)
    else:
        yield from _of_code(cell, kinds, text)


def _of_text(text: str, kinds: set[str]) -> Iterator[Slide]:
    if kinds & {"hint", "solution", "references"}:
        return
    kind = "exercise" if "exercise" in kinds else "recap" if "recap" in kinds else "idea"
    for section in re.split(r"^(?=#{2,3} )", text, flags=re.MULTILINE):
        heading, _, rest = section.partition("\n")
        if not heading.startswith("#"):
            continue  # the sentence that compares a result: it is said, not shown
        if kind == "recap":
            english, chinese = by_language(rest.strip())
            yield Slide(kind, heading.lstrip("# "), markdown(english))
            if chinese:
                yield Slide(kind, "", markdown(chinese))
            continue
        shown, notes = split(rest.strip(), WORDS if kind == "idea" else 1000)
        yield Slide(kind, heading.lstrip("# "), markdown(shown), markdown(notes))


def _of_code(cell: dict[str, Any], kinds: set[str], text: str) -> Iterator[Slide]:
    shown = guide.shown_text(cell)
    if "definition" in kinds:
        lines = text.splitlines()
        more = "\n…" if len(lines) > CODE_LINES else ""
        yield Slide("code", "", f"<pre>{html.escape(chr(10).join(lines[:CODE_LINES]) + more)}</pre>")
    if kinds & {"predict", "retrieval", "diagnose"}:
        for question, options in re.findall(r"^(\S.*)\n((?:  ○ .*(?:\n|$))+)", shown, flags=re.MULTILINE):
            listed = "".join(f"<li>{html.escape(option)}</li>" for option in re.findall(r"○ (.*)", options))
            kind = next(iter(kinds & {"predict", "retrieval", "diagnose"}))
            title = question.removeprefix("Predict: ")
            yield Slide(kind, "", f'<h2>{html.escape(title)}</h2><ul class="options">{listed}</ul>')
    for output in cell.get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            data = "".join("".join(png).split())
            image = f'<img class="figure" src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'
            yield Slide("figure", "", image, f"<p>{html.escape(alt)}</p>")


# ---------------------------------------------------------------- text


def split(text: str, words: int) -> tuple[str, str]:
    """Whole paragraphs up to a number of words, at least one; and the rest."""
    paragraphs, shown, count = re.split(r"\n\s*\n", text), [], 0
    for paragraph in paragraphs:
        count += len(paragraph.split())
        if shown and count > words:
            break
        shown.append(paragraph)
    return "\n\n".join(shown), "\n\n".join(paragraphs[len(shown) :])


def by_language(text: str) -> tuple[str, str]:
    """The paragraphs before the first Chinese one, and from there on."""
    paragraphs = re.split(r"\n\s*\n", text)
    chinese = (position for position, part in enumerate(paragraphs) if re.search(r"[\u4e00-\u9fff]", part))
    cut = next(chinese, len(paragraphs))
    return "\n\n".join(paragraphs[:cut]), "\n\n".join(paragraphs[cut:])


def markdown(text: str) -> str:
    """Markdown with formulas as HTML."""
    import mistune

    return _with_formulas(text, mistune.create_markdown(escape=False, plugins=["table", "strikethrough"]))


def inline(text: str) -> str:
    """One line of Markdown, without a paragraph around it."""
    return re.sub(r"^<p>|</p>\s*$", "", markdown(text).strip())


def _with_formulas(text: str, convert: Any) -> str:
    found: list[str] = []

    def keep(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        image = formulas.picture(match["display"] or match["inline"], display=bool(match["display"]))
        found.append(f'</p><p class="formula">{image}</p><p>' if match["display"] else image)
        return f"FORMULA{len(found) - 1}HERE"

    pattern = r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<display>.+?)\$\$|\$(?P<inline>[^$\n]+)\$"
    page = convert(re.sub(pattern, keep, text, flags=re.DOTALL))
    return re.sub(r"FORMULA(\d+)HERE", lambda match: found[int(match[1])], page)
