"""What the tests of all checkers share: answers as learners write them, how a verdict is judged, and junk.

Answers are source text, several styles an exercise. A wrong answer is a right one with one edit (old text -> new text),
so that it makes exactly one mistake.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import sklearn.metrics
import torch
import torch.nn.functional as F

from peft_helpers import checks


class Wrong(NamedTuple):
    """Style number `style` with `old` replaced by `new` must be refused as `slug`."""

    slug: str
    style: int
    old: str
    new: str


def written(source: str) -> Any:
    """The function that a cell with this source defines."""
    names: dict[str, Any] = {"torch": torch, "F": F, "np": np, "math": math, "Counter": Counter}
    names |= {"scipy": scipy, "sklearn": sklearn}
    exec(source, names)
    return names["answer"]


def judge(checker: str, answer: Any) -> checks.Verdict:
    """The verdict of the checker of this name."""
    verdict = getattr(checks, checker)(answer)
    assert isinstance(verdict, checks.Verdict)
    return verdict


def assert_unanswered(checker: str, answer: Any) -> None:
    """Nothing is passed and nothing failed yet."""
    verdict = judge(checker, answer)
    assert verdict.passed is None and not verdict and verdict.mistake is None
    assert repr(verdict).startswith("· Not answered yet")


def assert_accepted(checker: str, answer: Any) -> None:
    """Passed, without a mistake."""
    verdict = judge(checker, answer)
    assert verdict, verdict
    assert verdict.mistake is None and repr(verdict).startswith("✓ ")


def assert_refused(checker: str, answer: Any, slug: str) -> None:
    """Failed, with exactly this mistake."""
    verdict = judge(checker, answer)
    assert (verdict.passed, verdict.mistake) == (False, slug), verdict
    assert repr(verdict).startswith("✗ ") and verdict._repr_markdown_().startswith("**✗** ")


def assert_edit_refused(checker: str, styles: list[str], wrong: Wrong) -> None:
    """The right answer with that one edit is refused by name."""
    source = styles[wrong.style]
    assert wrong.old in source, "the edit must change something"
    assert_refused(checker, written(source.replace(wrong.old, wrong.new)), wrong.slug)


# ---------------------------------------------------------------- junk


def raises(error: BaseException) -> Any:
    """An answer that fails with this error."""

    def answer(*arguments):
        raise error

    return answer


class Unprintable(Exception):
    """An error whose message can't be read."""

    def __str__(self) -> str:
        raise RuntimeError("not even its message can be read")


JUNK = {
    "a string": "0.5",
    "a list of strings": ["a", "b", "c"],
    "a boolean": True,
    "NaN": float("nan"),
    "inf": float("inf"),
    "a matrix": torch.ones(2, 2),
    "a dictionary": {"plain": "x"},
    "a type": dict,
    "a module": math,
    "a complex number": 1j,
    "raises": raises(ValueError("no")),
    "exits": raises(SystemExit(1)),
    "recurses": lambda *arguments: (lambda f: f(f))(lambda f: f(f)),
    "raises what can't be printed": raises(Unprintable()),
    "returns a string": lambda *arguments: "3",
    "returns words": lambda *arguments: ("a", "b", "c"),
    "returns NaN": lambda *arguments: torch.tensor(float("nan")),
    "returns a wrong shape": lambda *arguments: torch.ones(7, 3, 2),
    "returns an empty list": lambda *arguments: [],
    "returns rows that do not fit": lambda *arguments: [[1.0], [1.0, 2.0]],
    "returns Nones": lambda *arguments: [None, None],
    "returns an object": lambda *arguments: object(),
    "returns an exception": lambda *arguments: ValueError(),
    "returns booleans": lambda *arguments: torch.tensor([True]),
    "returns complex numbers": lambda *arguments: torch.ones(2, dtype=torch.complex64),
    "returns its arguments": lambda *arguments: arguments,
    "takes no arguments": lambda: 1.0,
    "takes one argument": lambda x: x,
}
