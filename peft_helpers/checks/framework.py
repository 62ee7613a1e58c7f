"""How an exercise is checked: run the answer beside wrong variants, and name the one that gives the same numbers.

An exercise that asks for code lists *probes* (inputs, and how to call the function on them), the right function and a
table of *mistakes*: functions with the same signature, each wrong in one way that learners are. The first probe where
the answer differs from the right function decides: a mistake that reproduces the learner's numbers there is named.
Inputs are odd, not zero, and float64, so that two different formulas do not agree by accident. Exercises that ask for
a number list the typical wrong answers in the same way.

A checker never raises, whatever the answer does; and without an answer it says so, which is no failure.
"""

from __future__ import annotations

import functools
import inspect
import math
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

CLOSE = 1e-9  # relative; float64 answers in another order of operations agree to about 1e-14
NEARLY = 1e-4  # relative; what is closer than this, but not CLOSE, has lost digits


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a checker says: passed (True, False, or None for "not answered yet"), why, and the mistake's short name.

    It is true only if the exercise is passed.
    """

    passed: bool | None
    message: str
    mistake: str | None = None

    @property
    def mark(self) -> str:
        """✓ passed, ✗ refused, · not answered yet."""
        return {True: "✓", False: "✗", None: "·"}[self.passed]

    def __bool__(self) -> bool:
        return self.passed is True

    def __repr__(self) -> str:
        return f"{self.mark} {self.message}"

    def _repr_markdown_(self) -> str:
        return f"**{self.mark}** {self.message.replace('<', '&lt;')}"


@dataclass(frozen=True)
class Mistake:
    """One way to be wrong.

    Args:
        slug: its short, stable name.
        message: what is wrong and where to look, without the solution.
        variant: a function with the exercise's signature that makes this mistake and no other.
        raises: if it ends in an exception: words of which one occurs in its last line ("ValueError: …").
    """

    slug: str
    message: str
    variant: Callable | None = None
    raises: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """One trial of the answer.

    Args:
        name: what the trial feeds in, for messages ("on …").
        run: calls a function on the trial's inputs (through `call`) and returns numbers to compare.
        mistake: what to say if the answer fails here and no variant explains it.
    """

    name: str
    run: Callable[[Callable], Any]
    mistake: Mistake | None = None


def unanswered(message: str = "Not answered yet.") -> Verdict:
    return Verdict(None, message)


def refused(slug: str, message: str) -> Verdict:
    return Verdict(False, message, slug)


# ---------------------------------------------------------------- calling an answer


class Nothing(Exception):
    """The answer returned None."""


class Refused(Exception):
    """The answer broke a rule, or raised, before its numbers could be compared."""

    def __init__(self, slug: str, message: str):
        super().__init__(message)
        self.slug, self.message = slug, message


def call(function: Callable, *arguments: Any, outputs: int | None = None) -> Any:
    """Call an answer on copies of the arguments, and see that it leaves tensors unchanged.

    Args:
        outputs: how many values it must return as a tuple; None for one value.

    Raises:
        Nothing: if it returned None.
        Refused: if it can't take these arguments, changed one, or returned another number of values.
    """
    given = [_copy(argument) for argument in arguments]
    try:
        names = list(inspect.signature(function).bind(*given).arguments)
    except TypeError as error:
        raise Refused("wrong-signature", f"It can't be called with the exercise's arguments: {error}.") from None
    except ValueError:  # some built-in functions have no signature
        names = []
    result = function(*given)
    for i, (before, after) in enumerate(zip(arguments, given, strict=True)):
        if not _unchanged(before, after):
            name = f"`{names[i]}`" if len(names) == len(given) else f"number {i + 1}"
            raise Refused(
                "input-changed",
                f"It changes its argument {name} in place (`+=`, `*=`, `.mul_()`, `x[i] = …` on the given tensor), "
                "so the caller's tensor changes behind its back. Compute new tensors, or work on a `.clone()`.",
            )
    if result is None:
        raise Nothing
    if outputs is not None and not (isinstance(result, tuple | list) and len(result) == outputs):
        raise Refused("wrong-outputs", f"It must return {outputs} values, as the stub says; got {_describe(result)}.")
    return result


def as_numbers(value: Any) -> Tensor:
    """An answer's value as a float64 tensor: from tensors, NumPy arrays, numbers, and lists of these.

    Raises:
        Nothing: if it is None.
        Refused: if it holds no numbers, or rows of different shapes.
    """
    if value is None:
        raise Nothing
    if isinstance(value, list | tuple):
        rows = [as_numbers(row) for row in value]
        if not rows or len({row.shape for row in rows}) > 1:
            raise Refused("wrong-shape", f"It returns a list of {len(rows)} parts that do not fit together.")
        return torch.stack(rows)
    if isinstance(value, Tensor):
        found = (value.detach().double() if value.is_floating_point() else value.detach()).cpu().numpy()
    else:
        found = np.array(value)
    if found.dtype.kind not in "fiu":  # floats and integers, signed or not
        raise Refused("wrong-type", f"It must return real numbers, such as a tensor; got {_describe(value)}.")
    return torch.from_numpy(found.astype(np.float64))


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        if before.shape != after.shape:
            return False
        return bool(((before == after) | (before.isnan() & after.isnan())).all())
    if isinstance(before, list):
        return len(before) == len(after) and all(map(_unchanged, before, after))
    return True


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"


# ---------------------------------------------------------------- exercises


@dataclass(frozen=True)
class FunctionExercise:
    """An exercise whose answer is a function."""

    right: Callable
    probes: Sequence[Probe]
    mistakes: Sequence[Mistake]
    praise: str = "Right."

    def judge(self, answer: Any) -> Verdict:
        """The verdict on `answer`; never raises."""
        if answer is None:
            return unanswered()
        if not callable(answer):
            return refused("not-a-function", f"The answer must be a function; got {_describe(answer)}.")
        function, spoke = _listen(answer)
        silent = []
        for probe in self.probes:
            expected, got = attempt(probe, self.right), attempt(probe, function)
            if isinstance(got, Nothing):
                silent.append(probe.name)
            elif not alike(got, expected):
                return self._diagnose(function, probe, got, expected)
        if not silent:
            return Verdict(True, self.praise)
        if spoke:
            return refused("returns-none", f"It returns nothing on {silent[0]}. Is there a `return` on every path?")
        return unanswered(
            "Not answered yet: the function returns None (if you did write it: is the `return` missing?)."
        )

    def _diagnose(self, function: Callable, probe: Probe, got: Tensor | Refused, expected: Tensor) -> Verdict:
        """Name the mistake: a variant that explains what was got, else the probe's own, else what can be seen."""
        explaining = [mistake for mistake in self.mistakes if _explains(mistake, probe, got)]
        if explaining:
            mistake = self._most_alike(explaining, function)
            return refused(mistake.slug, mistake.message)
        if isinstance(got, Refused):
            if probe.mistake and got.slug == "raised":
                return refused(probe.mistake.slug, f"{probe.mistake.message} (On {probe.name}: {got.message})")
            return refused(got.slug, f"On {probe.name}: {got.message}")
        if got.shape == expected.shape and _close(got, expected, NEARLY):
            return refused(
                "precision-lost",
                f"On {probe.name} it is right to a few digits only. Is something float32 (`.float()`, `torch.zeros(…)` "
                "without dtype), or is a small constant added that does not belong there?",
            )
        if probe.mistake:
            return refused(probe.mistake.slug, f"{probe.mistake.message} ({_difference(probe, got, expected)})")
        if got.shape != expected.shape and max(got.numel(), expected.numel()) > 1:
            wanted = tuple(expected.shape)
            return refused("wrong-shape", f"On {probe.name}: the shape is {tuple(got.shape)}, it should be {wanted}.")
        slug = "not-finite" if not torch.isfinite(got).all() else "wrong-value"
        return refused(slug, _difference(probe, got, expected))

    def _most_alike(self, explaining: list[Mistake], function: Callable) -> Mistake:
        """Of several mistakes that explain the first failure, the one that explains the most probes, or the first."""
        if len(explaining) == 1:
            return explaining[0]
        results = [(probe, attempt(probe, function)) for probe in self.probes]
        return max(explaining, key=lambda mistake: sum(_explains(mistake, probe, got) for probe, got in results))


def attempt(probe: Probe, function: Callable) -> Tensor | Refused | Nothing:
    """Run a probe; whatever goes wrong comes back as a value."""
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # such as NumPy's overflow warnings: the verdict says it better
            return as_numbers(probe.run(function))
    except (Refused, Nothing) as problem:
        return problem
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an answer may raise anything, SystemExit included
        return Refused("raised", f"it raises {traceback.format_exception_only(error)[-1].strip()}")


def alike(got: Tensor | Refused | Nothing, expected: Tensor | Refused | Nothing) -> bool:
    """Equal numbers within `CLOSE`, non-finite ones in the same places; a single number may come in any shape."""
    if not (isinstance(got, Tensor) and isinstance(expected, Tensor)):
        return False
    if got.numel() == expected.numel() == 1:
        got, expected = got.reshape(()), expected.reshape(())
    return got.shape == expected.shape and _close(got, expected, CLOSE)


def _close(got: Tensor, expected: Tensor, tolerance: float) -> bool:
    finite = torch.isfinite(expected)
    if not torch.equal(torch.isfinite(got), finite):
        return False
    return torch.allclose(got[finite], expected[finite], rtol=tolerance, atol=1e-3 * tolerance)


def _explains(mistake: Mistake, probe: Probe, got: Tensor | Refused) -> bool:
    if isinstance(got, Refused):
        return got.slug == "raised" and any(words in got.message for words in mistake.raises)
    return mistake.variant is not None and alike(got, attempt(probe, mistake.variant))


def _difference(probe: Probe, got: Tensor, expected: Tensor) -> str:
    if got.shape != expected.shape:
        return f"On {probe.name}: the shape is {tuple(got.shape)}, it should be {tuple(expected.shape)}."
    wrong = ~torch.isclose(got, expected, rtol=CLOSE, atol=0.0)
    first = tuple(wrong.nonzero()[0].tolist())
    where = f" at index {list(first)}" if first else ""
    return f"On {probe.name}{where}: got {got[first]:.6g}, should be {expected[first]:.6g}."


def _listen(answer: Callable) -> tuple[Callable, list]:
    """The answer, and a list that is filled once it returned something."""
    spoke = []

    def heard(*arguments):
        result = answer(*arguments)
        if result is not None:
            spoke.append(True)
        return result

    return functools.update_wrapper(heard, answer), spoke


@dataclass(frozen=True)
class WrongNumber:
    """A typical wrong result, and what leads to it."""

    value: float
    slug: str
    message: str


@dataclass(frozen=True)
class NumberExercise:
    """An exercise whose answer is a number, within 1 % of `right`."""

    right: float
    mistakes: Sequence[WrongNumber]
    praise: str = "Right."
    tolerance: float = 0.01

    def judge(self, answer: Any) -> Verdict:
        """The verdict on `answer`; never raises."""
        if answer is None:
            return unanswered()
        try:
            number = float(as_numbers(answer).reshape(()))
        except Exception:  # strings, lists, whole tensors …
            return refused("not-a-number", f"The answer must be one number; got {_describe(answer)}.")
        if not math.isfinite(number):
            return refused("not-a-number", f"The answer must be a finite number; got {number}.")
        if self._near(number, self.right):
            return Verdict(True, self.praise)
        for mistake in self.mistakes:
            if self._near(number, mistake.value):
                return refused(mistake.slug, mistake.message)
        direction = "too large" if number > self.right else "too small"
        return refused("wrong-value", f"{number:.6g} is {direction}.")

    def _near(self, number: float, value: float) -> bool:
        return abs(number - value) <= self.tolerance * abs(value)


@dataclass(frozen=True)
class SeveralNumbers:
    """An exercise whose answer is several numbers, in the order of `parts` (a tuple, a list, or a dict by name)."""

    parts: Mapping[str, NumberExercise]
    praise: str = "Right."

    def judge(self, answer: Any) -> Verdict:
        """The verdict on `answer`: the first part that is wrong or missing decides; never raises."""
        if answer is None:
            return unanswered()
        given = [answer.get(name) for name in self.parts] if isinstance(answer, dict) else answer
        given = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
        if not isinstance(given, list | tuple) or len(given) != len(self.parts):
            expected = f"{len(self.parts)} numbers ({', '.join(self.parts)})"
            return refused("not-numbers", f"The answer must be {expected}; got {_describe(answer)}.")
        for (name, exercise), value in zip(self.parts.items(), given, strict=True):
            verdict = exercise.judge(value)
            if not verdict:
                return Verdict(verdict.passed, f"{name}: {verdict.message}", verdict.mistake)
        return Verdict(True, self.praise)


def as_choice(answer: str) -> str:
    """An answer as choices are written, in lower case with hyphens.

    >>> as_choice(" Wrong_sign"), as_choice("rate too large")
    ('wrong-sign', 'rate-too-large')
    """
    return "-".join(answer.lower().replace("_", " ").replace("-", " ").split())


# ---------------------------------------------------------------- inputs


def odd_numbers(*shape: int, seed: int) -> Tensor:
    """Odd float64 numbers, none of them 0, the same on every machine; roughly between −2 and 2."""
    count = math.prod(shape)
    positions = torch.arange(1, count + 1, dtype=torch.float64)
    return (2 * torch.sin(positions * (1.7 + seed) + 0.3 * seed)).reshape(shape)
