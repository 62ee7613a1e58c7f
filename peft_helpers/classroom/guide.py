"""The teacher's guide, a page a lesson: from the notebooks' metadata, the checkers and a few hand-written parts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft_helpers import question_bank
from peft_helpers.classroom import assignments, exercises, variants
from peft_helpers.classroom.exercises import Part, source, tags

HERE = Path(__file__).parent
DIFFERENCE = {
    "numbers": "other numbers in variant b",
    "hidden inputs": "graded on hidden inputs as well, others in each variant",
    "nothing": "the same in both variants",
}


def discussion() -> dict[str, list[str]]:
    """The hand-written questions for the class: lesson's number -> questions, each with what to listen for."""
    return json.loads((HERE / "discussion.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------- what a lesson says about itself


def objectives(notebook: dict[str, Any]) -> list[str]:
    """The numbered list in the lesson's header."""
    header = source(next(cell for cell in notebook["cells"] if "header" in tags(cell)))
    items = re.findall(r"^\d+\. (.*(?:\n(?!\d+\. |\s*$).*)*)", header, flags=re.MULTILINE)
    return [" ".join(item.split()) for item in items]


def timing(notebook: dict[str, Any], level: str) -> list[tuple[float, str]]:
    """(minutes, heading) of every part of a level, core or more, in order."""
    plan = []
    for cell in notebook["cells"]:
        minutes = cell["metadata"].get("minutes")
        if minutes and level in tags(cell):
            heading = re.search(r"^#{2,3} (.+)", source(cell), flags=re.MULTILINE)
            name = "Opening: question, objectives, retrieval" if "header" in tags(cell) else None
            title = re.sub(r" \([\d.]+ minutes?\)$", "", heading[1]) if heading else "(continued)"
            plan.append((minutes, name or title))
    return plan


def shown_text(cell: dict[str, Any]) -> str:
    """What the cell's stored outputs say, as plain text."""
    texts = ["".join(output.get("data", {}).get("text/plain", "")) for output in cell.get("outputs", [])]
    return "\n".join(texts)


def predictions(notebook: dict[str, Any]) -> list[tuple[str, list[str], str]]:
    """(question, options, what was measured) of every prediction, from the stored outputs."""
    asked, measured = {}, {}
    for cell in notebook["cells"]:
        shown = shown_text(cell)
        questions = re.findall(r"^Predict: (.*)\n((?:  ○ .*(?:\n|$))+)", shown, flags=re.MULTILINE)
        results = re.findall(r"^Measured: (.*)\. You (?:did not commit|predicted)", shown, flags=re.MULTILINE)
        asked |= dict(zip(keys(cell, "predict"), questions, strict=False))
        measured |= dict(zip(keys(cell, "outcome"), results, strict=False))
    return [(text, re.findall(r"○ (.*)", options), measured.get(key, "")) for key, (text, options) in asked.items()]


def keys(cell: dict[str, Any], verb: str) -> list[str]:
    """The keys of the calls of `lesson.predict` or `lesson.outcome` in a code cell."""
    return re.findall(rf'lesson\.{verb}\(\s*"([^"]+)"', source(cell)) if cell["cell_type"] == "code" else []


# ---------------------------------------------------------------- a page a lesson


def page(stem: str, notebook: dict[str, Any]) -> str:
    """The guide to one lesson, as Markdown."""
    about, number = notebook["metadata"]["peft_course"], stem[:2]
    parts = exercises.find(notebook)
    lines = [f"# {number} · {about['title']}", "", f"**{about['question']}**", ""]
    lines += [
        f"Class: {about['class_minutes']} minutes. All cells run in about {about.get('seconds_cpu', 0):.0f} s on two "
        f"CPU cores, so grading a copy takes about as long. Slides: `slides/{stem}.html`. For nbgrader the lesson is "
        f"assignment `{number}a`, or `{number}b` with other numbers.",
        "",
        "## Objectives",
        "",
        *(f"{position}. {item}" for position, item in enumerate(objectives(notebook), 1)),
        "",
        *_timing_lines(notebook),
        *_prediction_lines(notebook),
        *_question_lines(number),
        "## Exercises, answers and likely errors",
        "",
    ]
    for part in parts:
        lines += _exercise_lines(part)
    if asked := discussion().get(number):
        lines += ["## To discuss", "", *(f"- {question}" for question in asked), ""]
    return "\n".join(lines)


def _timing_lines(notebook: dict[str, Any]) -> Iterator[str]:
    yield from ("## Timing", "", "| from minute | takes | |", "|---|---|---|")
    clock = 0.0
    for minutes, heading in timing(notebook, "core"):
        yield f"| {clock:g} | {minutes:g} | {_cell(heading)} |"
        clock += minutes
    yield from (f"| {clock:g} | | end of the core |", "")
    if more := timing(notebook, "more"):
        listed = "; ".join(f"{heading} ({minutes:g})" for minutes, heading in more)
        yield from (f"For the fast, or for home, with minutes: {listed}.", "")


def _prediction_lines(notebook: dict[str, Any]) -> Iterator[str]:
    yield from ("## Predictions", "")
    yield from ("Let everybody commit before the next cell runs; ask two who disagree for their reasons.", "")
    for question, options, measured in predictions(notebook):
        marked = (f"**{option}** (measured)" if option == measured else option for option in options)
        yield f"- {question} " + " / ".join(marked)
    yield ""


def _question_lines(number: str) -> Iterator[str]:
    if number not in question_bank.lessons():
        return
    yield from ("## Questions, with the right answers", "")
    for question in question_bank.of_lesson(number).values():
        right = next(option for option in question.options if option.right)
        yield f"- *{question.kind}* {question.id}: {question.text} **{right.text}**: {right.why}"
    yield ""


def _exercise_lines(part: Part) -> Iterator[str]:
    yield f"### {part.id} · {part.title} ({part.level}, {part.minutes:g} minutes, {_points(part.points)})"
    yield from ("", f"Variants: {DIFFERENCE[variants.kind(part)]}.", "")
    yield from ("```python", part.solution, "```", "")
    if part.remark:
        yield from (part.remark, "")
    if (other := assignments.in_variant(part, "b")) != part:
        yield from ("Variant b:", "", "```python", other.solution, "```", "")
    if errors := exercises.likely_errors(part.checker):
        yield from ("| likely error | what the checker says |", "|---|---|")
        yield from (f"| {slug} | {_cell(message)} |" for slug, message in errors.items())
        yield ""


def _points(points: float) -> str:
    return f"{points:g} point{'' if points == 1 else 's'}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# ---------------------------------------------------------------- the first page


def readme(lessons: dict[str, dict[str, Any]]) -> str:
    """The guide's first page: the hand-written part, with the table of lessons in its place."""
    rows = ["| lesson | class | exercises (core + more) | points | grading a copy |", "|---|---|---|---|---|"]
    for stem, notebook in lessons.items():
        about, parts = notebook["metadata"]["peft_course"], exercises.find(notebook)
        core = sum(part.level == "core" for part in parts)
        points = sum(part.points for part in parts)
        rows.append(
            f"| [{stem[:2]} · {about['title']}](guide/{stem}.md) | {about['class_minutes']} min | {core} + "
            f"{len(parts) - core} | {points:g} | {about.get('seconds_cpu', 0):.0f} s |"
        )
    same = [part.id for notebook in lessons.values() for part in exercises.find(notebook) if _same(part)]
    varied = [part.id for notebook in lessons.values() for part in exercises.find(notebook) if _numbers(part)]
    text = (HERE / "teaching.md").read_text(encoding="utf-8")
    for mark, filling in (
        ("LESSONS", "\n".join(rows)),
        ("NUMBERS", ", ".join(varied) or "none"),
        ("SAME", ", ".join(same) or "none"),
    ):
        text = text.replace(f"<!-- {mark} -->", filling)
    return text


def _same(part: Part) -> bool:
    return variants.kind(part) == "nothing"


def _numbers(part: Part) -> bool:
    return variants.kind(part) == "numbers"
