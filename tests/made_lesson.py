"""A small lesson that keeps every rule, for tests that then break one of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import notebook_rules as rules

from peft_helpers import editions, storage

SETUP = """import sys
import types
if "google.colab" in sys.modules:
    %pip install -q git+{repository}
import peft_helpers
"""
CHECKS = """class Verdict(types.SimpleNamespace):
    pass
def check_double(answer):
    value = answer(3)
    return Verdict(passed=None if value is None else value == 6)
checks = types.SimpleNamespace(check_double=check_double)
# peft_helpers.setup(seed=0)"""
HEADER = """# Made up

[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})

**How long is a line?** No need of anything. Class: 60 minutes; it runs in about 15 seconds.

1. You can compute the double of a number (exercise 1)
2. You can choose a number (exercise 1)
"""
RECAP = "## Recap\n\n" + "- a line\n" * 5 + "\n" + "- 一行\n" * 5
HINT = "<details>\n<summary>Hint</summary>\n\nAdd.\n\n</details>"
SOLUTION = "<details>\n<summary>Solution</summary>\n\n```python\ndef double(x):\n    return x + x\n```\n\n</details>"
BADGE_AT = "/blob/main/notebooks/01_made_up.ipynb"


def lesson() -> dict[str, Any]:
    """A notebook, as JSON, that keeps every rule; its file name is 01_made_up.ipynb."""
    repository = editions.repository(rules.ROOT)
    colab = repository.replace("https://github.com/", "https://colab.research.google.com/github/") + BADGE_AT
    nbgrader = {"schema_version": 3, "task": False}
    stub = nbgrader | {"grade_id": "ex-01-1", "solution": True, "grade": False, "locked": False}
    check = nbgrader | {"grade_id": "check-01-1", "solution": False, "grade": True, "locked": True, "points": 1}
    png = {
        "output_type": "display_data",
        "data": {"image/png": "iVBORw0KGgo=", "text/plain": "A line that goes up."},
        "metadata": {"image/png": {"alt": "A line that goes up."}},
    }
    cells = [
        markdown(HEADER.format(colab=colab), "header", minutes=2),
        code(SETUP.format(repository=repository), "setup"),
        code(CHECKS, "setup"),
        markdown("What did you know?", "retrieval"),
        markdown("## A section\n\nSome words.", minutes=10),
        code("import hashlib\n" + inspect.getsource(storage.sha256), "definition", module="peft_helpers.storage"),
        code('lesson.predict("01-a", "up?", ["yes", "no"])', "predict", outputs=[text("up? yes, no")]),
        code('lesson.outcome("01-a", "yes")', "outcome", outputs=[text("you did not predict")]),
        code("figure = plots.line()\nplots.show(figure)", "figure", outputs=[png]),
        *(code(f"print({k})", "nbval-check-output", outputs=[printed(f"{k}\n")]) for k in range(3)),
        markdown("### Exercise 1 · Double it (5 minutes)\n\nDouble.", "exercise", exercise="01-1", minutes=5),
        code("def double(x):\n    return None", "stub", exercise="01-1", nbgrader=stub),
        code(
            "checks.check_double(double)",
            "check",
            exercise="01-1",
            nbgrader=check,
            outputs=[text("· Not answered yet")],
        ),
        markdown(HINT, "hint", exercise="01-1"),
        markdown(SOLUTION, "solution", exercise="01-1"),
        markdown("What broke here?", "diagnose"),
        *(markdown(f"Filler {k}.") for k in range(20)),
        markdown(RECAP, "recap"),
        markdown("## References\n\n- Kingma & Ba, Adam. https://example.org/adam", "references"),
    ]
    count = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            for output in cell["outputs"]:
                if output["output_type"] == "execute_result":
                    output["execution_count"] = count
    for position, cell in enumerate(cells):
        cell["id"] = f"cell-{position}"
    about = {
        "lesson": 1,
        "title": "Made up",
        "question": "How long is a line?",
        "class_minutes": 60,
        "seconds_cpu": 12.0,
    }
    metadata = {
        "accelerator": "GPU",
        "colab": {"gpuType": "T4", "provenance": []},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "peft_course": about,
    }
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def markdown(source: str, *tags: str, **metadata: Any) -> dict[str, Any]:
    """A markdown cell, tagged core."""
    return {"cell_type": "markdown", "metadata": {"tags": ["core", *tags], **metadata}, "source": lines(source)}


def code(source: str, *tags: str, outputs: list[dict[str, Any]] | None = None, **metadata: Any) -> dict[str, Any]:
    """A code cell, tagged core."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": ["core", *tags], **metadata},
        "outputs": outputs or [],
        "source": lines(source),
    }


def text(shown: str) -> dict[str, Any]:
    """A result that is displayed as plain text."""
    return {"output_type": "execute_result", "data": {"text/plain": [shown]}, "metadata": {}, "execution_count": None}


def printed(shown: str, name: str = "stdout") -> dict[str, Any]:
    """What a cell printed."""
    return {"output_type": "stream", "name": name, "text": [shown]}


def lines(source: str) -> list[str]:
    """A source as notebooks store it."""
    return source.rstrip("\n").splitlines(keepends=True)


def tagged(notebook: dict[str, Any], tag: str) -> dict[str, Any]:
    """The first cell that carries `tag`."""
    return next(cell for cell in notebook["cells"] if tag in cell["metadata"]["tags"])


def write(folder: Path, change: Callable[[dict[str, Any]], object] | None = None) -> Path:
    """Write the lesson into `folder`, changed by `change`."""
    notebook = lesson()
    if change is not None:
        change(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "01_made_up.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path
