"""Every exercise of every lesson: the stub counts as not answered, the solution passes. And every explorer is made.

Only the cells tagged `setup` run before: exercises and explorers depend on nothing else in the notebook.
"""

from __future__ import annotations

import ast
import functools
import linecache
from pathlib import Path
from typing import Any

import made_lesson
import notebook_rules as rules
import pytest
from IPython.display import display

from peft_helpers.widgets import Explorer

EXERCISES = [
    (path, exercise)
    for path in rules.lessons(rules.ROOT / "notebooks")
    for exercise in rules.read(path).exercises() or ["none"]  # a lesson without exercises fails, it is not skipped
]


@functools.cache
def setup(path: Path) -> dict[str, Any]:
    """The names that the lesson's setup cells leave behind."""
    namespace = {"__name__": "__main__", "display": display}
    for cell in rules.read(path).tagged("setup"):
        run(ast.unparse(cell.tree), namespace, f"{path.stem}, cell {cell.at}")
    return namespace


def run(source: str, namespace: dict[str, Any], name: str) -> Any:
    """Run a cell's code; the value of its last expression, if it ends with one."""
    linecache.cache[f"<{name}>"] = (len(source), None, source.splitlines(keepends=True), f"<{name}>")
    tree, value = ast.parse(source), None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"<{name}>", "exec"), namespace)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), f"<{name}>", "eval"), namespace)
    return value


def verdict(path: Path, exercise: str, solved: bool) -> Any:
    """What the exercise's check cell says to the stub, or to the solution."""
    lesson, namespace = rules.read(path), dict(setup(path))
    (answer,), (check,) = lesson.part(exercise, "solution" if solved else "stub"), lesson.part(exercise, "check")
    name = f"{exercise}, {'solution' if solved else 'stub'}"
    run(rules.python_block(answer) if solved else answer.source, namespace, name)
    return run(check.source, namespace, f"{exercise}, check")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exercise writes stays out of the working tree; no window opens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.parametrize(
    ("path", "exercise"), EXERCISES, ids=lambda part: part.stem if isinstance(part, Path) else part
)
def test_stub_is_not_answered(path: Path, exercise: str) -> None:
    said = verdict(path, exercise, solved=False)
    assert said.passed is None, f"the stub of {exercise} is judged: {said}"


@pytest.mark.parametrize(
    ("path", "exercise"), EXERCISES, ids=lambda part: part.stem if isinstance(part, Path) else part
)
def test_solution_passes(path: Path, exercise: str) -> None:
    said = verdict(path, exercise, solved=True)
    assert said.passed is True, f"the solution of {exercise} does not pass: {said}"


WIDGETS = [
    (path, cell.at) for path in rules.lessons(rules.ROOT / "notebooks") for cell in rules.read(path).tagged("widget")
]


@pytest.mark.parametrize(
    ("path", "at"), WIDGETS, ids=lambda part: part.stem if isinstance(part, Path) else f"cell-{part}"
)
def test_an_explorer_needs_nothing_but_the_setup(path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, namespace = [], dict(setup(path))
    plain = Explorer.__init__
    monkeypatch.setattr(Explorer, "__init__", lambda self, *a, **k: made.append(self) or plain(self, *a, **k))
    run(rules.read(path).cells[at - 1].source, namespace, f"{path.stem}, cell {at}")
    assert made, "the cell is tagged widget and makes no explorer"


def test_on_a_made_up_lesson(tmp_path: Path) -> None:
    path = made_lesson.write(tmp_path / "good")
    assert verdict(path, "01-1", solved=False).passed is None
    assert verdict(path, "01-1", solved=True).passed is True

    def wrong(notebook: dict[str, Any]) -> None:
        cell = made_lesson.tagged(notebook, "solution")
        cell["source"] = [line.replace("x + x", "x") for line in cell["source"]]

    assert verdict(made_lesson.write(tmp_path / "changed", wrong), "01-1", solved=True).passed is False
