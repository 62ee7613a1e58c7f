"""Every rule over every lesson; and every rule on a lesson that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_lesson
import notebook_rules as rules
import pytest
from made_lesson import printed, tagged, text

NOTEBOOKS = rules.lessons(rules.ROOT / "notebooks")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", rules.RULES)
def test_lesson_keeps_the_rule(path: Path, name: str) -> None:
    found = rules.problems(path, (name,))
    assert not found, "\n".join(["", *found])


def test_the_made_up_lesson_keeps_every_rule(tmp_path: Path) -> None:
    assert rules.problems(made_lesson.write(tmp_path)) == []


def source(tag: str, new: str) -> Callable[[dict[str, Any]], None]:
    """A change: the first cell with this tag gets another source."""
    return lambda notebook: tagged(notebook, tag).update(source=made_lesson.lines(new))


def edit(tag: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """A change: within the first cell with this tag, `old` becomes `new`."""

    def change(notebook: dict[str, Any]) -> None:
        before = "".join(tagged(notebook, tag)["source"])
        assert old in before
        tagged(notebook, tag)["source"] = made_lesson.lines(before.replace(old, new))

    return change


def output(tag: str, *new: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """A change: the first cell with this tag gets these outputs."""
    return lambda notebook: tagged(notebook, tag).update(outputs=list(new))


def about(**new: object) -> Callable[[dict[str, Any]], None]:
    """A change in metadata.peft_course."""
    return lambda notebook: notebook["metadata"]["peft_course"].update(new)


def meta(tag: str, **new: object) -> Callable[[dict[str, Any]], None]:
    """A change in the metadata of the first cell with this tag."""
    return lambda notebook: tagged(notebook, tag)["metadata"].update(new)


def without(tag: str) -> Callable[[dict[str, Any]], None]:
    """A change: the first cell with this tag is gone (and the counts of the rest still in order)."""

    def change(notebook: dict[str, Any]) -> None:
        notebook["cells"].remove(tagged(notebook, tag))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for count, cell in enumerate(code, 1):
            cell["execution_count"] = count

    return change


WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider()"}
SHOWN = {"output_type": "display_data", "data": WIDGET, "metadata": {}}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
NO_ALT = {
    "output_type": "display_data",
    "data": {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"},
    "metadata": {},
}
OTHER_ADAM = "*Adam: A Slow Method*. arXiv:1412.6980"
LONG_FUNCTION = "def long():\n" + "".join(f"    a{k} = {k}\n" for k in range(25))

BROKEN = {
    "another kernel": ("metadata", lambda nb: nb["metadata"]["kernelspec"].update(name="my-env")),
    "number of another lesson": ("metadata", about(lesson=2)),
    "no question": ("metadata", about(question="")),
    "seconds not measured": ("metadata", about(seconds_cpu=None)),
    "too slow": ("metadata", about(seconds_cpu=91)),
    "no accelerator": ("metadata", lambda nb: nb["metadata"].pop("accelerator")),
    "no Colab settings": ("metadata", lambda nb: nb["metadata"].pop("colab")),
    "neither core nor more": ("tags", meta("retrieval", tags=["retrieval"])),
    "core and more": ("tags", meta("retrieval", tags=["retrieval", "core", "more"])),
    "misspelled tag": ("tags", meta("retrieval", tags=["core", "retreival"])),
    "tag on the wrong kind": ("tags", meta("recap", tags=["core", "recap", "stub"])),
    "badge of another lesson": ("header", edit("header", "01_made_up", "02_other")),
    "badge of another repository": ("header", edit("header", "/github/", "/github/someone/")),
    "objective without exercise": ("header", edit("header", "the double of a number (exercise 1)", "doubles")),
    "objective with an unknown exercise": ("header", edit("header", "(exercise 1)", "(exercise 7)")),
    "question not asked": ("header", edit("header", "How long", "How short")),
    "no run time": ("header", edit("header", "15 seconds", "no time")),
    "another run time": ("header", edit("header", "15 seconds", "45 seconds")),
    "header not first": ("header", lambda nb: nb["cells"].reverse()),
    "install everywhere": ("setup", edit("setup", 'if "google.colab" in sys.modules:', "if True:")),
    "install from elsewhere": ("setup", edit("setup", "git+https://github.com/", "git+https://github.com/someone/")),
    "no seed": ("setup", lambda nb: nb["cells"][2].update(source=["checks = None"])),
    "too many minutes": ("minutes", meta("exercise", minutes=74)),
    "more minutes than the class": ("minutes", about(class_minutes=10)),
    "section without minutes": ("minutes", lambda nb: nb["cells"][4]["metadata"].pop("minutes")),
    "exercise without minutes": ("minutes", lambda nb: tagged(nb, "exercise")["metadata"].pop("minutes")),
    "minutes as text": ("minutes", meta("exercise", minutes="5")),
    "long cell": ("lengths", source("outcome", "a = 1\n" * 21)),
    "long definition": ("lengths", source("definition", "a = 1\n" * 26)),
    "semicolon": ("lengths", source("outcome", "a = 1;")),
    "too many words": ("lengths", source("diagnose", "word " * 2500)),
    "too many cells": ("lengths", lambda nb: nb["cells"].extend([made_lesson.markdown("x")] * 60)),
    "too much code": ("lengths", lambda nb: nb["cells"].extend([made_lesson.code("a = 1\n" * 20)] * 23)),
    "definition that drifted": ("definitions", edit("definition", '"sha256"', '"sha1"')),
    "definition that the package lacks": ("definitions", edit("definition", "def sha256", "def sha255")),
    "definition of no module": ("definitions", meta("definition", module="peft_helpers.nothing")),
    "definition too long": ("definitions", source("definition", LONG_FUNCTION)),
    "more than a definition": ("definitions", edit("definition", "import hashlib", "import hashlib\nprint(1)")),
    "stored error": ("outputs", output("outcome", ERROR)),
    "stored stderr": ("outputs", output("outcome", printed("warning", "stderr"))),
    "stored widget": ("outputs", output("outcome", SHOWN)),
    "widget state": ("outputs", lambda nb: nb["metadata"].update(widgets={})),
    "absolute path": ("outputs", output("outcome", text("saved in /home/anna/course/x.json"))),
    "Windows path": ("outputs", output("outcome", text(r"saved in C:\Users\anna"))),
    "not run": ("outputs", lambda nb: tagged(nb, "outcome").update(execution_count=None)),
    "run out of order": ("outputs", lambda nb: tagged(nb, "outcome").update(execution_count=40)),
    "check without output": ("outputs", output("check")),
    "no picture": ("outputs", output("figure", text("Figure"))),
    "no text alternative": ("outputs", output("figure", NO_ALT)),
    "figure not shown": ("outputs", source("figure", "figure = plots.line()")),
    "too few compared cells": ("checked_outputs", without("nbval-check-output")),
    "compared cell that does not print": ("checked_outputs", output("nbval-check-output", text("1"))),
    "no exercise": (
        "exercises",
        lambda nb: nb.update(cells=[c for c in nb["cells"] if "exercise" not in c["metadata"]]),
    ),
    "exercise of another lesson": ("exercises", meta("hint", exercise="02-1")),
    "no hint": ("exercises", without("hint")),
    "no solution": ("exercises", without("solution")),
    "no stub": ("exercises", without("stub")),
    "title and metadata disagree": ("exercises", meta("exercise", minutes=6)),
    "no title": ("exercises", edit("exercise", "### Exercise 1 · ", "### Exercise: ")),
    "stub not marked": ("exercises", meta("stub", nbgrader={})),
    "check without points": ("exercises", lambda nb: tagged(nb, "check")["metadata"]["nbgrader"].update(points=0)),
    "check that checks nothing": ("exercises", source("check", "double(3)")),
    "hint in the open": ("exercises", source("hint", "Add.")),
    "two solutions": ("exercises", edit("solution", "</details>", "```python\nx = 1\n```\n</details>")),
    "solution is no python": ("exercises", edit("solution", "return x + x", "return x +")),
    "order": ("exercises", lambda nb: nb["cells"].append(nb["cells"].pop(nb["cells"].index(tagged(nb, "stub"))))),
    "explorer not tagged": ("widgets", source("outcome", "explorer = widgets.loss_explorer()\nexplorer")),
    "prediction without outcome": ("predictions", without("outcome")),
    "outcome without prediction": ("predictions", without("predict")),
    "outcome of another prediction": ("predictions", edit("outcome", "01-a", "01-b")),
    "prediction not tagged": ("predictions", meta("predict", tags=["core"])),
    "no recap": ("closing", without("recap")),
    "recap in one language": ("closing", edit("recap", "一行", "a line")),
    "short recap": ("closing", edit("recap", "- a line\n- a line\n", "- a line\n")),
    "no retrieval": ("closing", without("retrieval")),
    "nothing to diagnose": ("closing", without("diagnose")),
    "no references": ("closing", without("references")),
    "paper in nobody's list": ("closing", edit("diagnose", "What broke", "What (arXiv:0000.00000) broke")),
    "paper under another title": ("closing", edit("references", "Adam. https://example.org/adam", OTHER_ADAM)),
    "reference without link": ("closing", edit("references", "https://example.org/adam", "2015")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_lesson_is_found(case: str, tmp_path: Path) -> None:
    name, change = BROKEN[case]
    assert rules.problems(made_lesson.write(tmp_path, change), (name,)), f"the rule {name} does not see: {case}"


def test_every_rule_is_tried() -> None:
    assert {name for name, _ in BROKEN.values()} == set(rules.RULES)


def test_no_lesson_among_files_is_an_error(tmp_path: Path) -> None:
    assert rules.lessons(tmp_path / "absent") == []
    (tmp_path / "images").mkdir()
    assert rules.lessons(tmp_path) == []
    (tmp_path / "images" / "figure.png").write_bytes(b"")
    with pytest.raises(ValueError, match="not one lesson"):
        rules.lessons(tmp_path)
    made_lesson.write(tmp_path)
    assert [path.stem for path in rules.lessons(tmp_path)] == ["01_made_up"]
    (tmp_path / "Untitled.ipynb").write_text("{}")
    with pytest.raises(ValueError, match=r"Untitled\.ipynb"):
        rules.lessons(tmp_path)


def test_words_are_prose() -> None:
    cell = made_lesson.markdown("Two words $a + b$ and `code` [link](https://x.y)\n```python\nx = 1\n```\n<b>bold</b>")
    read = rules.Cell(1, "markdown", "".join(cell["source"]), cell["metadata"], [], None)
    assert rules.words(read) == len(["Two", "words", "x", "and", "x", "link", "x", "bold"])
