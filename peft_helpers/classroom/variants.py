"""Two variants of every exercise, a and b, for two groups or two terms.

- An exercise answered by code is graded on hidden inputs besides the checker's own ones, drawn by the variant's seed:
  the same trials with other floats, or the inputs of `hidden_inputs`. Writing down what the checker shows brings no
  points.
- An exercise answered by a number has other numbers in b, where `variant_numbers` knows some: statement, solution and
  right answer change together.
- The rest (most are answers read off a figure or a table of the lesson) is the same in both; the guide says which.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from peft_helpers import checks
from peft_helpers.checks.framework import (
    FunctionExercise,
    NumberExercise,
    Probe,
    SeveralNumbers,
    Verdict,
    alike,
    attempt,
    call,
    unanswered,
)
from peft_helpers.checks.reading import as_share
from peft_helpers.classroom import hidden_inputs
from peft_helpers.classroom.exercises import Part, exercise_of
from peft_helpers.classroom.variant_numbers import Numbers, draw

VARIANTS = ("a", "b")
SEEDS = {"a": 1, "b": 2}
NUMBERS = draw(SEEDS["b"])


def kind(part: Part) -> str:
    """What differs between the variants of an exercise: "numbers", "hidden inputs" or "nothing"."""
    if part.id in NUMBERS:
        return "numbers"
    return "hidden inputs" if has_other_inputs(part.checker) else "nothing"


def check(exercise: str, answer: Any) -> Verdict:
    """Check an answer to an exercise with the numbers of variant b: `classroom.check("02-7", curvature)`.

    Raises:
        ValueError: if variant b has no other numbers for this exercise.
    """
    if exercise not in NUMBERS:
        raise ValueError(f"variant b has no other numbers for {exercise!r}, only for {', '.join(NUMBERS)}")
    numbers = NUMBERS[exercise]
    if isinstance(answer, list | tuple):
        if all(part is None for part in answer):
            return unanswered()
        if len(answer) == len(numbers.right):  # an accuracy may come in percent, as in the lessons
            answer = [as_share(x) if name == "accuracy" else x for name, x in zip(numbers.right, answer, strict=True)]
    return _exercise(numbers).judge(answer)


def _exercise(numbers: Numbers) -> NumberExercise | SeveralNumbers:
    parts = {name: NumberExercise(value, [], tolerance=numbers.tolerance) for name, value in numbers.right.items()}
    return next(iter(parts.values())) if len(parts) == 1 else SeveralNumbers(parts)


def judge(exercise: str, checker: str, answer: Any, variant: str) -> Verdict:
    """The verdict that gives the points: the checker's own, or that of the variant's numbers, then the hidden inputs.

    Raises:
        ValueError: if there is no such variant or checker.
    """
    if variant not in VARIANTS:
        raise ValueError(f"the variants are {' and '.join(VARIANTS)}; got {variant!r}")
    known = exercise_of(checker)
    if variant == "b" and exercise in NUMBERS:
        return check(exercise, answer)
    verdict = getattr(checks, checker)(answer)
    if verdict and isinstance(known, FunctionExercise):
        hidden = with_other_inputs(checker, known, SEEDS[variant]).judge(answer)
        if not hidden:
            return dataclasses.replace(hidden, passed=False, message=f"With other inputs: {hidden.message}")
    return verdict


# ---------------------------------------------------------------- other inputs


def with_other_inputs(checker: str, exercise: FunctionExercise, seed: int) -> FunctionExercise:
    """The exercise on other inputs: drawn ones, or its own trials with other floats; without either, as it is."""
    if drawn := hidden_inputs.draw(checker, seed):
        read = hidden_inputs.READ.get(checker)
        trials = [_trial(exercise.right, given, read) for given in drawn]
        return dataclasses.replace(exercise, probes=trials, mistakes=() if read else exercise.mistakes)
    bent = (_bent_probe(probe, seed) for probe in exercise.probes)
    other = [new for old, new in zip(exercise.probes, bent, strict=True) if _differs(old, new, exercise.right)]
    return dataclasses.replace(exercise, probes=other) if other else exercise


def has_other_inputs(checker: str) -> bool:
    """Whether each variant has hidden inputs of its own."""
    known = exercise_of(checker)
    if not isinstance(known, FunctionExercise):
        return False
    return all(with_other_inputs(checker, known, seed) is not known for seed in SEEDS.values())


def _trial(right: Callable, given: tuple[Any, ...], read: Callable | None) -> Probe:
    """One call on drawn arguments; what is no number (words, pairs) goes through `read`, and is equal or not."""

    def run(function: Callable) -> Any:
        if read is None:
            return _as_plain(call(function, *copy.deepcopy(given)))
        return float(read(function, *copy.deepcopy(given)) == read(right, *copy.deepcopy(given)))

    return Probe("another input", run)


def _as_plain(value: Any) -> Any:
    """Yes and no as 1 and 0, and a tensor with one number as that number: each is right in any form."""
    if isinstance(value, list | tuple):
        return [_as_plain(part) for part in value]
    if isinstance(value, torch.Tensor | np.ndarray | np.bool_):
        return (value * 1).reshape(()) if math.prod(value.shape) == 1 else value * 1
    return float(value) if isinstance(value, bool) else value


def _differs(old: Probe, new: Probe, right: Callable) -> bool:
    """Whether the right function gives numbers on the new inputs, and other ones."""
    before, after = attempt(old, right), attempt(new, right)
    return isinstance(after, torch.Tensor) and not alike(after, before)


def _bent_probe(probe: Probe, seed: int) -> Probe:
    rng = random.Random(f"{probe.name} {seed}")
    power = rng.choice([rng.uniform(0.86, 0.94), rng.uniform(1.06, 1.14)])

    def run(function: Callable) -> Any:
        made: list[torch.Tensor] = []  # what earlier calls returned, such as a velocity: its units are the answer's own

        def on_other_inputs(*given: Any) -> Any:
            kept = [
                any(torch.equal(value, state) for state in made if isinstance(value, torch.Tensor)) for value in given
            ]
            result = function(*(v if keep else _bent(v, power) for v, keep in zip(given, kept, strict=True)))
            parts = result if isinstance(result, list | tuple) else [result]
            made.extend(part.detach().clone() for part in parts if isinstance(part, torch.Tensor))
            return result

        return probe.run(functools.update_wrapper(on_other_inputs, function))

    return dataclasses.replace(probe, run=run)


def _bent(value: Any, power: float) -> Any:
    """Every float x of an argument as sign(x)·|x|^power.

    That keeps what an input may have to be: signs, zeros and ones, order, ties, and a place between 0 and 1.
    """
    if isinstance(value, torch.Tensor):
        if not value.is_floating_point() or value.requires_grad:
            return value
        return torch.where(value.isfinite(), value.sign() * value.abs() ** power, value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.where(np.isfinite(value), np.sign(value) * np.abs(value) ** power, value)
    if isinstance(value, float) and math.isfinite(value):
        return math.copysign(abs(value) ** power, value)
    if isinstance(value, dict):
        return {name: _bent(part, power) for name, part in value.items()}
    return [_bent(part, power) for part in value] if type(value) is list else value
