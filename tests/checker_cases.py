"""What the tests of all checkers share: answers as learners write them, how a verdict is judged, and junk.

Answers are source text, several styles an exercise. A wrong answer is a right one with one edit (old text -> new text),
so that it makes exactly one mistake. A lesson's test file fills these tables in a subclass of `CheckerTests`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
import torch.nn.functional as F

from peft_helpers import checks
from peft_helpers.checks.framework import FunctionExercise, NumberExercise, SeveralNumbers


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


# ---------------------------------------------------------------- the tests of every lesson's checkers

# What any exercise may say; the other mistakes are the lesson's own, and its module lists them.
GENERAL = frozenset({
    "input-changed", "not-a-choice", "not-a-number", "not-finite", "not-numbers", "precision-lost", "raised",
    "returns-none", "wrong-outputs", "wrong-shape", "wrong-signature", "wrong-type", "wrong-value",
})  # fmt: skip

VALUED = NumberExercise | SeveralNumbers


def numbers(exercise: VALUED) -> list[NumberExercise]:
    """The numbers that an exercise asks for."""
    if isinstance(exercise, SeveralNumbers):
        return list(exercise.parts.values())
    return [exercise]


def slugs(exercise: FunctionExercise | VALUED) -> set[str]:
    """The mistakes that an exercise knows by name."""
    if isinstance(exercise, FunctionExercise):
        return {m.slug for m in exercise.mistakes} | {p.mistake.slug for p in exercise.probes if p.mistake}
    return {wrong.slug for number in numbers(exercise) for wrong in number.mistakes}


class CheckerTests:
    """What holds for the checkers of every lesson; `ValueCheckerTests` adds the exercises answered by a value.

    A subclass (its name begins with `Test`) fills in the tables. Test names hold the checker, the mistake and a
    running number, so that they are the same in every process.

    A test that takes an argument named as a key of `cases` runs once for each of its cases.
    """

    modules: tuple[ModuleType, ...]  # where the exercises stand
    right: Mapping[str, list[str]]  # checker -> right functions as source, three styles at least
    wrong: Mapping[str, list[Wrong]]  # checker -> functions with one mistake
    exercises: Mapping[str, FunctionExercise]  # checker -> the exercise that it judges by, one for each key of `right`
    values: Mapping[str, tuple[list[Any], list[tuple[str, Any]]]] = {}  # checker -> right values, (slug, wrong value)
    valued: Mapping[str, VALUED] = {}  # checker -> its exercise, where the framework has a kind for it
    half_answered: Mapping[str, list[Any]] = {}  # checker -> stubs filled in part
    junk: Mapping[str, Any] = JUNK
    silent_junk: frozenset[tuple[str, str]] = frozenset()  # (junk, checker) that count as not answered
    raised_only: frozenset[str] = frozenset()  # mistakes that are known by their exception, without a variant
    shortest_message: int = 3  # words
    untried: frozenset[str] = frozenset()  # mistakes that no edit of a right answer makes
    unlisted: frozenset[str] = frozenset()  # mistakes that the module does not list, besides the general ones

    def cases(self) -> dict[str, dict[str, Any]]:
        """Argument of a test -> name of the case -> its value."""
        styles = [(name, source) for name, sources in self.right.items() for source in sources]
        edits = [(name, wrong) for name, table in self.wrong.items() for wrong in table]
        rights = [(name, value) for name, (found, _) in self.values.items() for value in found]
        wrongs = [(name, slug, value) for name, (_, table) in self.values.items() for slug, value in table]
        return {
            "checker": {name: name for name in self.checkers()},
            "coded": {name: name for name in self.right},
            "style": {f"{name}-{i}": (name, source) for i, (name, source) in enumerate(styles)},
            "edit": {f"{name}-{wrong.slug}-{i}": (name, wrong) for i, (name, wrong) in enumerate(edits)},
            "right_value": {f"{name}-{i}": (name, value) for i, (name, value) in enumerate(rights)},
            "wrong_value": {f"{name}-{slug}-{i}": (name, slug, value) for i, (name, slug, value) in enumerate(wrongs)},
            "junk_name": {name: name for name in self.junk},
            "silent": {"first-call": 1, "second-call": 2},
        }

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Pytest asks here for the cases of every test of the class."""
        for argument, cases in self.cases().items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, list(cases.values()), ids=list(cases))

    def checkers(self) -> list[str]:
        return [*self.right, *self.values]

    def found(self, kind: Any) -> Iterator[Any]:
        """The exercises of a kind that stand in the lesson's modules."""
        everything = itertools.chain.from_iterable(vars(module).values() for module in self.modules)
        return (value for value in everything if isinstance(value, kind))

    def test_without_an_answer_nothing_is_failed(self, checker: str) -> None:
        empty = [lambda *arguments: None] if checker in self.right else []
        for answer in (None, *empty, *self.half_answered.get(checker, [])):
            assert_unanswered(checker, answer)

    def test_right_answers_pass_in_every_style(self, style: tuple[str, str]) -> None:
        checker, source = style
        assert_accepted(checker, written(source))

    def test_wrong_answers_are_refused_by_name(self, edit: tuple[str, Wrong]) -> None:
        checker, wrong = edit
        assert_edit_refused(checker, self.right[checker], wrong)

    def test_junk_is_refused_and_never_raises(self, checker: str, junk_name: str) -> None:
        verdict = judge(checker, self.junk[junk_name])
        assert verdict.message and not verdict.passed
        silent = (junk_name, checker) in self.silent_junk or (junk_name == "returns Nones" and checker in self.right)
        if verdict.passed is None:  # only where nothing but None came back
            assert silent, verdict

    def test_an_answer_that_is_sometimes_none_is_refused(self, coded: str, silent: int) -> None:
        right, calls = written(self.right[coded][0]), []

        def answer(*arguments):
            calls.append(1)
            return None if len(calls) == silent else right(*arguments)

        verdict = judge(coded, answer)
        if len(calls) == 1:  # the only one: it was None, or the second never came
            assert len(self.exercises[coded].probes) == 1
            assert verdict.passed is (None if silent == 1 else True), verdict
            return
        assert (verdict.passed, verdict.mistake) == (False, "returns-none"), verdict

    def test_the_exception_is_named(self, coded: str) -> None:
        verdict = judge(coded, raises(ArithmeticError("the reactor is warm")))
        assert verdict.mistake == "raised"
        assert "ArithmeticError: the reactor is warm" in verdict.message

    def test_every_variant_of_the_tables_is_told_apart(self, coded: str) -> None:
        for mistake in self.exercises[coded].mistakes:
            assert "  " not in mistake.message and len(mistake.message.split()) >= self.shortest_message, mistake
            if mistake.variant is None:
                assert mistake.raises and mistake.slug in self.raised_only, mistake
            else:
                assert judge(coded, mistake.variant).mistake == mistake.slug, mistake

    def test_every_mistake_has_a_known_wrong_answer(self) -> None:
        found = list(self.found(FunctionExercise))
        assert set(self.exercises) == set(self.right) == set(self.wrong)
        assert len(found) == len(self.exercises) and all(one in found for one in self.exercises.values())
        for checker, exercise in self.exercises.items():
            assert slugs(exercise) - self.untried <= {wrong.slug for wrong in self.wrong[checker]}, checker
        found = list(self.found(VALUED))
        assert set(self.valued) <= set(self.values)
        assert len(found) == len(self.valued) and all(one in found for one in self.valued.values())
        for checker, exercise in self.valued.items():
            assert slugs(exercise) <= {slug for slug, _ in self.values[checker][1]}, checker
            for number in numbers(exercise):  # typical wrong numbers lie far outside the tolerance
                for wrong in number.mistakes:
                    if wrong.value != number.right:  # some list a whole table, and the right number passes before
                        assert abs(wrong.value - number.right) > 2 * number.tolerance * abs(number.right), wrong

    def test_the_module_lists_its_exercises_and_mistakes(self) -> None:
        text = "\n".join(module.__doc__ or "" for module in self.modules)
        for checker in self.checkers():
            assert f"`{checker}`" in text and checker in checks.__all__
            table = self.wrong.get(checker) or self.values[checker][1]
            named = {slug for slug, *_ in table} - GENERAL - self.unlisted
            assert [slug for slug in sorted(named) if slug not in text] == [], checker
        assert all(len(styles) >= 3 for styles in self.right.values())

    def test_a_checker_leaves_the_learners_session_as_it_was(self) -> None:
        before = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
        for checker, styles in self.right.items():
            judge(checker, written(styles[0]))
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1:] == (torch.get_default_dtype(), torch.is_grad_enabled())


class ValueCheckerTests(CheckerTests):
    """For lessons that have exercises answered by a value, too: a number, several, a dictionary."""

    def test_right_values_pass(self, right_value: tuple[str, Any]) -> None:
        checker, value = right_value
        assert_accepted(checker, value)

    def test_wrong_values_are_refused_by_name(self, wrong_value: tuple[str, str, Any]) -> None:
        checker, slug, value = wrong_value
        assert_refused(checker, value, slug)
