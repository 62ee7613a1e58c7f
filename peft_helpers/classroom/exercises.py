"""The exercises of a lesson as a teacher sees them: cells, minutes, solution, and the errors that the checker names."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from peft_helpers import checks
from peft_helpers.checks.framework import FunctionExercise, NumberExercise, SeveralNumbers

Exercise = FunctionExercise | NumberExercise | SeveralNumbers


@dataclass(frozen=True)
class Part:
    """One exercise: its cells' text, and the checker's name."""

    id: str  # "01-3"
    title: str
    minutes: float
    level: str  # core or more
    points: float
    statement: str
    stub: str
    solution: str  # code
    remark: str  # what the folded solution says beside the code
    checker: str  # "check_softmax"
    answer: str  # the expression that is checked, such as "my_softmax"


def source(cell: dict[str, Any]) -> str:
    """A cell's text."""
    return "".join(cell["source"])


def tags(cell: dict[str, Any]) -> list[str]:
    """A cell's tags."""
    return cell["metadata"].get("tags", [])


def find(notebook: dict[str, Any]) -> list[Part]:
    """The exercises of a lesson, in order.

    Raises:
        ValueError: if an exercise lacks a cell, its solution is not one Python block, or its check calls no checker.
    """
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in notebook["cells"]:
        if name := cell["metadata"].get("exercise"):
            role = next(iter({"exercise", "stub", "check", "hint", "solution"} & set(tags(cell))), None)
            cells.setdefault(name, {})[str(role)] = cell
    return [_part(name, roles) for name, roles in cells.items()]


def _part(name: str, roles: dict[str, dict[str, Any]]) -> Part:
    if missing := {"exercise", "stub", "check", "solution"} - set(roles):
        raise ValueError(f"exercise {name} has no cell tagged {', '.join(sorted(missing))}")
    statement, solution = source(roles["exercise"]), source(roles["solution"])
    blocks = re.findall(r"^```python\n(.*?)^```", solution, flags=re.MULTILINE | re.DOTALL)
    if len(blocks) != 1:
        raise ValueError(f"the solution of exercise {name} holds {len(blocks)} python blocks, not one")
    remark = re.sub(r"^```python\n.*?^```|</?details>|<summary>.*?</summary>", "", solution, flags=re.M | re.S)
    title = re.match(r"### Exercise \d+ · (.*?)(?: \([^)]*\))?\s*$", statement.splitlines()[0])
    checker, answer = checked(source(roles["check"]), name)
    return Part(
        name,
        title[1] if title else statement.splitlines()[0].lstrip("# "),
        roles["exercise"]["metadata"].get("minutes", 0),
        "more" if "more" in tags(roles["exercise"]) else "core",
        roles["check"]["metadata"].get("nbgrader", {}).get("points", 1),
        statement,
        source(roles["stub"]),
        blocks[0].rstrip("\n"),
        remark.strip(),
        checker,
        answer,
    )


def checked(code: str, name: str) -> tuple[str, str]:
    """The checker and the answer of a check cell: `checks.check_softmax(my_softmax)` -> (check_softmax, my_softmax).

    Raises:
        ValueError: if the cell's last line is no such call with one answer.
    """
    last = ast.parse(code).body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    if isinstance(call, ast.Call) and len(call.args) == 1 and not call.keywords:
        checker = re.fullmatch(r"checks\.(check_\w+)", ast.unparse(call.func))
        if checker:
            return checker[1], ast.unparse(call.args[0])
    raise ValueError(f"exercise {name}: the check's last line is not checks.check_…(answer): {ast.unparse(last)}")


# ---------------------------------------------------------------- what a checker knows


def exercise_of(checker: str) -> Exercise | None:
    """The exercise that a checker judges by; None where it judges by code of its own.

    Raises:
        ValueError: if there is no checker of this name.
    """
    function = getattr(checks, checker, None)
    if not checker.startswith("check_") or function is None:
        raise ValueError(f"there is no checker {checker!r} in peft_helpers.checks")
    names = vars(sys.modules[function.__module__])
    used = (names.get(name) for name in function.__code__.co_names)
    return next((value for value in used if isinstance(value, Exercise)), None)


def likely_errors(checker: str) -> dict[str, str]:
    """The mistakes that a checker knows by name: slug -> what it says about it."""
    return dict(_errors(exercise_of(checker)))


def _errors(exercise: Exercise | None) -> Iterator[tuple[str, str]]:
    if isinstance(exercise, FunctionExercise):
        found = [*exercise.mistakes, *(probe.mistake for probe in exercise.probes if probe.mistake)]
        yield from ((mistake.slug, mistake.message) for mistake in found)
    elif isinstance(exercise, NumberExercise):
        yield from ((wrong.slug, wrong.message) for wrong in exercise.mistakes)
    elif isinstance(exercise, SeveralNumbers):
        for name, number in exercise.parts.items():
            yield from ((slug, f"{name}: {message}") for slug, message in _errors(number))
