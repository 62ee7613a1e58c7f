"""Learning-rate schedules and early stopping from scratch: what lesson 06 builds.

A schedule gives the rate at a step as a share of its peak. During the warm-up the share rises linearly from 0; after it
a *decay* takes over, a function of t steps since the warm-up's end out of T. The shares equal those of torch's
schedulers and of transformers' `get_…_schedule_with_warmup`, which a test compares. The `require_…` functions at the
end hold the input checks, so that the definitions above them show nothing but the mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# ---------------------------------------------------------------- the decays, from 1 on


def constant(t: int, total: int) -> float:
    """The peak rate to the end."""
    return 1.0


def linear(t: int, total: int) -> float:
    """A straight line from 1 to 0: (T − t) / T (transformers: `get_linear_schedule_with_warmup`)."""
    return max(0.0, (total - t) / total)


def cosine(t: int, total: int) -> float:
    """Half a cosine wave from 1 to 0: (1 + cos(π t / T)) / 2 (arXiv:1608.03983, eq. 5, without restarts)."""
    return (1 + math.cos(math.pi * min(t, total) / total)) / 2


def step(t: int, total: int, stages: int = 3, gamma: float = 0.1) -> float:
    """A staircase: times gamma after every T/stages steps (torch: `StepLR`)."""
    return gamma ** (t // math.ceil(total / stages))


def exponential(t: int, total: int, last: float = 0.01) -> float:
    """Times the same factor at every step, so that `last` is reached after T (torch: `ExponentialLR`)."""
    return last ** (t / total)


DECAYS = {"constant": constant, "linear": linear, "cosine": cosine, "step": step, "exponential": exponential}


def schedule(name: str, now: int, steps: int, warmup: int = 0) -> float:
    """The rate at step `now` (from 0) of a run of `steps`, as a share of its peak.

    Args:
        name: one of `DECAYS`.
        now: steps taken so far.
        steps: of the whole run, warm-up included.
        warmup: steps in which the share rises linearly, 0 at the first of them.

    Raises:
        ValueError: an unknown name, or numbers of steps that make no run.
    """
    require_run(name, now, steps, warmup)
    if now < warmup:
        return now / warmup
    return DECAYS[name](now - warmup, max(1, steps - warmup))


# ---------------------------------------------------------------- early stopping


def stopping_point(scores: Sequence[float], patience: int) -> tuple[int, int]:
    """Where early stopping ends a run whose evaluations give `scores` (higher is better), and what it keeps.

    It ends after `patience` evaluations in a row without a score better than the best so far; a tie is not better.
    This is the rule of `training.fit` (Prechelt 1998, https://doi.org/10.1007/3-540-49430-8_3, his criterion UP).

    Returns:
        number of the last evaluation that takes place, number of the one whose weights are kept; both from 0.

    Raises:
        ValueError: no scores, a score that is no number, or a patience below 1.
    """
    require_scores(scores, patience)
    best, waited = 0, 0
    for i in range(1, len(scores)):
        waited += 1
        if scores[i] > scores[best]:
            best, waited = i, 0
        if waited >= patience:
            return i, best
    return len(scores) - 1, best


# ---------------------------------------------------------------- input checks


def require_name(name: str) -> None:
    """Refuse an unknown schedule.

    Raises:
        ValueError: naming those that there are.
    """
    if not isinstance(name, str) or name not in DECAYS:
        raise ValueError(f"schedule must be one of {', '.join(DECAYS)}; got {name!r}")


def require_run(name: str, now: int, steps: int, warmup: int) -> None:
    """Refuse what is no step of a run.

    Raises:
        ValueError: naming the number.
    """
    require_name(name)
    if not steps >= 1:
        raise ValueError(f"a run has at least 1 step; got steps = {steps}")
    if not now >= 0:
        raise ValueError(f"steps are counted from 0; got now = {now}")
    if not 0 <= warmup <= steps:
        raise ValueError(f"the warm-up is part of the run, 0 to {steps} steps; got {warmup}")


def require_scores(scores: Sequence[float], patience: int) -> None:
    """Refuse what can't be stopped.

    Raises:
        ValueError: naming it.
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"scores must be a list of at least one number; got shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError("a score is NaN: early stopping can't compare it")
    if not patience >= 1:
        raise ValueError(f"patience is a number of evaluations, 1 or more; got {patience}")
