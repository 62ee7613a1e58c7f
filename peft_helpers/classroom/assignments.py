"""A lesson as an assignment: the students' copy, and the source that nbgrader makes a graded one from.

Both have the same cells: no folded solutions, no outputs. In the source the solution stands in the stub's cell, and
each check gives points; nbgrader takes both out again when it makes a release, and what is left is the students' copy.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from peft_helpers import editions
from peft_helpers.classroom import exercises, grading, variants
from peft_helpers.classroom.exercises import Part
from peft_helpers.classroom.variant_numbers import edited

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def student(notebook: dict[str, Any], variant: str) -> dict[str, Any]:
    """A lesson without solutions and outputs."""
    return _assignment(notebook, variant, key=False)


def key(notebook: dict[str, Any], variant: str) -> dict[str, Any]:
    """A lesson as nbgrader's source: solutions in place, hidden tests in the check cells, no outputs."""
    return _assignment(notebook, variant, key=True)


def _assignment(notebook: dict[str, Any], variant: str, key: bool) -> dict[str, Any]:
    parts = {part.id: in_variant(part, variant) for part in exercises.find(notebook)}
    cells = []
    for cell in editions.without_outputs(notebook)["cells"]:
        part = parts.get(cell["metadata"].get("exercise"))
        if "solution" in exercises.tags(cell):
            continue
        if part is not None and (text := _changed(cell, part, variant, key)) is not None:
            cell = cell | {"source": text.splitlines(keepends=True)}
        cells.append(_marked(cell))
    made = editions.without_outputs(notebook | {"cells": cells})
    about = made["metadata"]["peft_course"] | {"variant": variant, "copy": "key" if key else "student"}
    return made | {"metadata": made["metadata"] | {"peft_course": about}}


def in_variant(part: Part, variant: str) -> Part:
    """The exercise with the variant's numbers."""
    numbers = variants.NUMBERS.get(part.id)
    if variant == "a" or numbers is None:
        return part
    statement, solution = edited(part.statement, numbers.statement), edited(part.solution, numbers.solution)
    return dataclasses.replace(part, statement=statement, solution=solution, remark="")


def _marked(cell: dict[str, Any]) -> dict[str, Any]:
    """Tag a code cell that no exercise needs: a quick grading leaves it out."""
    if cell["cell_type"] != "code" or {"setup", "definition", "stub", "check"} & set(exercises.tags(cell)):
        return cell
    return cell | {"metadata": cell["metadata"] | {"tags": [*exercises.tags(cell), grading.QUICK]}}


def _changed(cell: dict[str, Any], part: Part, variant: str, key: bool) -> str | None:
    """The new text of one of an exercise's cells; None where it stays."""
    tags = exercises.tags(cell)
    if "exercise" in tags:
        return part.statement
    if "stub" in tags:
        return f"{part.stub}\n" + (f"{BEGIN}\n{part.solution}\n{END}" if key else "")
    if "check" in tags:
        other = variant == "b" and part.id in variants.NUMBERS
        call = f'classroom.check("{part.id}", {part.answer})' if other else exercises.source(cell).rstrip("\n")
        visible = f"from peft_helpers import classroom\n\n{call}" if other else call
        hidden = grading.hidden_test(part.id, part.checker, part.answer, variant)
        return f"{visible}\n{hidden}" if key else visible
    return None
