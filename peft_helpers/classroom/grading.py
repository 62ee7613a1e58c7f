"""Points for nbgrader: a check that refuses an answer ends in an error, which is how nbgrader takes the points away.

In the course a checker only says what is wrong, so that 'Run all' never stops. The graded copy has one more line in
each check cell, which students don't see: `grading.require(…)`.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from peft_helpers.classroom import variants

BEGIN, END = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"

QUICK = "demonstration"  # the tag of the cells that a quick grading leaves out

CONFIG = '''"""nbgrader's settings for the course; run nbgrader in this folder."""

import os

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "peft-course"
c.ClearSolutions.code_stub = {"python": ""}  # the stubs of the course stay as they are
c.Execute.timeout = 300  # seconds a cell; an answer that never ends costs its own points only
# PEFT_QUICK=1 nbgrader autograde …   runs set-up, definitions, exercises and what students added, and nothing else
c.Execute.skip_cells_with_tag = "demonstration" if os.environ.get("PEFT_QUICK") else "skip-execution"
'''


class NotPassed(AssertionError):
    """The answer gets no points; the message is the checker's."""


def require(exercise: str, checker: str, answer: Any, variant: str) -> None:
    """Print the verdict on an answer that passes.

    Raises:
        NotPassed: if it does not pass, or there is no answer.
        ValueError: if there is no such checker or variant.
    """
    with contextlib.redirect_stderr(io.StringIO()):  # nbgrader gives 0 points to a cell that writes a warning
        verdict = variants.judge(exercise, checker, answer, variant)
    if not verdict:
        raise NotPassed(repr(verdict)) from None
    print(repr(verdict))


def hidden_test(exercise: str, checker: str, answer: str, variant: str) -> str:
    """The lines that a check cell has in the graded copy only; `answer` is the expression that is checked."""
    call = f'grading.require("{exercise}", "{checker}", {answer}, variant="{variant}")'
    return f"{BEGIN}\nfrom peft_helpers.classroom import grading\n\n{call}\n{END}"
