"""The classroom: editions for students and teachers, grading, a guide, slides, and a test for before and after.

    python -m peft_helpers.classroom        writes student/ and instructor/ in a clone of the course

`exercises` reads the exercises of a lesson and what their checkers know, `variants` makes a second version of each,
`grading` gives the points, `assignments` writes the notebooks, `guide`, `slides` and `inventory` what a teacher needs
beside them, and `folders` puts the finished folders in their places.

The notebooks of variant b import this package for the exercises that have other numbers there: `classroom.check`.
"""

from __future__ import annotations

from peft_helpers.classroom.variants import check

__all__ = ["check"]
