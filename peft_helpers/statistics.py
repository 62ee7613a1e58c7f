"""Is a difference between two systems real? Paired bootstrap intervals, and how many items it takes to tell them apart.

Two systems that answer the same test items are compared item by item: what is hard for one is often hard for the other,
and the comparison of two separate error bars throws that away. The paired bootstrap (Efron and Tibshirani 1993, *An
Introduction to the Bootstrap*; for language tasks Berg-Kirkpatrick, Burkett and Klein 2012, *An Empirical Investigation
of Statistical Significance in NLP*) draws the test items again with replacement, both systems' answers together, and
looks at how the difference of their scores varies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peft_helpers import evaluation, weighted_metrics

CELLS_AT_ONCE = 1_000_000  # resampled items held in memory at a time: 8 MB an array


@dataclass(frozen=True)
class Interval:
    """The difference between two scores, a − b, with its bootstrap interval, in the metric's own unit.

    Attributes:
        difference: as measured on the items.
        low, high: the interval's ends.
        level: the share of such intervals that cover the true difference.
        items: how many test items were resampled.
        seeds: over how many training runs the scores are averaged: of a, and of b.
        points: show it in points (hundredths), as is usual for accuracy.
    """

    difference: float
    low: float
    high: float
    level: float
    items: int
    seeds: tuple[int, int] = (1, 1)
    points: bool = True

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference of nothing lies outside the interval."""
        return self.low > 0 or self.high < 0

    def __repr__(self) -> str:
        scale, digits, unit = (100, 1, " points") if self.points else (1, 3, "")
        text = (
            f"{self.difference * scale:+.{digits}f}{unit}, {self.level * 100:g} % interval "
            f"{self.low * scale:.{digits}f} … {self.high * scale:.{digits}f}: "
            f"{'excludes' if self.excludes_zero else 'includes'} 0"
        )
        if max(self.seeds) > 1:
            runs = " and ".join(str(n) for n in dict.fromkeys(self.seeds))
            text += f" ({self.items} items resampled; each item averaged over {runs} seeds first)"
        return text


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    metric: str | Callable[[NDArray, NDArray], float] | None = None,
    samples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of score(a) − score(b) over resampled test items, both systems on the same draw.

    With several training runs (rows), the runs are averaged for each drawn set of items before the difference is
    taken; for accuracy that is the average of each item's correctness. The interval then speaks about other test
    items, not about other seeds: look at the spread over seeds too.

    Args:
        a: (N,) or (seeds, N): whether each item is right (0 to 1); or, if `labels` are given, predictions.
        b: the same for the other system; its number of seeds may differ.
        labels: (N,) true classes or scores.
        metric: with `labels`, a name that `evaluation.score` knows (default "accuracy"; computed for all samples at
            once; of mse, a negative difference favors a) or any function of (predictions, labels), called for every
            sample and run.
        samples: how often the items are drawn.
        level: of the interval.
        seed: of the draws.

    Raises:
        ValueError: unequal lengths, fewer than 2 items, numbers that are not finite, a correctness outside 0 … 1,
            an unknown metric, a metric without labels.
    """
    if samples < 100:
        raise ValueError(f"an interval needs at least 100 samples, better 10,000; got {samples}")
    if not 0 < level < 1:
        raise ValueError(f"the level is a share between 0 and 1, such as 0.95; got {level}")
    runs_a, runs_b = _runs("a", a), _runs("b", b)
    items = runs_a.shape[1]
    if runs_b.shape[1] != items:
        raise ValueError(f"a paired comparison needs the same items: a has {items}, b has {runs_b.shape[1]}")
    if labels is None:
        if metric is not None:
            raise ValueError("a metric is computed from predictions and labels: give labels= too")
        for name, runs in (("a", runs_a), ("b", runs_b)):
            if runs.min() < 0 or runs.max() > 1:
                raise ValueError(
                    f"without labels, {name} says which items are right, 0 to 1; got {runs.min():g} … {runs.max():g}"
                )
        truth = np.ones(items)
    else:
        truth = _runs("labels", labels)[0]
        if len(truth) != items or np.ndim(labels) != 1:
            raise ValueError(
                f"there must be one label an item: {items} predictions, labels of shape {np.shape(labels)}"
            )
        for run in [*runs_a, *runs_b] if not callable(metric) else []:
            evaluation.score(metric or "accuracy", run, truth)  # its errors say what is wrong with a prediction
    weighted = weighted_metrics.correctness if labels is None else _weighted_metric(metric or "accuracy")

    def difference(counts: NDArray) -> NDArray:
        score_a, score_b = (sum(weighted(run, truth, counts) for run in runs) / len(runs) for runs in (runs_a, runs_b))
        return score_a - score_b

    draws = np.concatenate([difference(counts) for counts in _resampled_counts(items, samples, seed)])
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]).round(12)  # an end that is 0 must not be 1e-17
    measured = difference(np.ones((1, items)))[0]
    points = metric is None or (isinstance(metric, str) and metric != "mse")
    return Interval(float(measured), float(low), float(high), level, items, (len(runs_a), len(runs_b)), points)


def items_needed(difference: float, disagreement: float, power: float = 0.8, level: float = 0.95) -> int:
    """How many test items it takes to tell two systems apart (McNemar's test, normal approximation).

    n = (z_level √ψ + z_power √(ψ − δ²))² / δ² (Connor 1987, *Biometrics* 43): only items on which exactly one of the
    two is right say anything about the difference.

    Args:
        difference: δ, the true difference in accuracy, such as 0.02.
        disagreement: ψ, the share of items on which exactly one of the two is right; at least |δ|.
        power: the chance of finding the difference.
        level: 1 minus the chance of finding one where there is none (two-sided).

    Raises:
        ValueError: a difference of 0, a disagreement below |difference| or above 1, a power or level outside (0, 1).
    """
    if not 0 < abs(difference) <= disagreement <= 1:
        raise ValueError(
            "the difference must not be 0, and the share of items where exactly one is right lies between it and 1; "
            f"got difference {difference}, disagreement {disagreement}"
        )
    if not (0 < power < 1 and 0 < level < 1):
        raise ValueError(f"power and level are shares between 0 and 1; got {power} and {level}")
    z_level, z_power = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    spread = z_level * math.sqrt(disagreement) + z_power * math.sqrt(disagreement - difference**2)
    return math.ceil((spread / difference) ** 2)


class Spread(NamedTuple):
    """A mean over runs, the sample standard deviation (NaN for a single run), and the number of runs."""

    mean: float
    spread: float
    count: int


def mean_and_spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation (divided by n − 1) of a few runs' scores.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    runs = _runs("values", list(values), at_least=1)[0]
    return Spread(float(runs.mean()), float(runs.std(ddof=1)) if len(runs) > 1 else math.nan, len(runs))


def _runs(name: str, values: ArrayLike, at_least: int = 2) -> NDArray:
    """As floats of shape (seeds, N), checked."""
    array = np.asarray(values, dtype=float)
    if array.ndim not in (1, 2) or array.shape[-1] < at_least or array.shape[0] == 0:
        raise ValueError(
            f"{name} must hold at least {at_least} items, shaped (items,) or (seeds, items); got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a number that is not finite at {np.argwhere(~np.isfinite(array))[0].tolist()}")
    return np.atleast_2d(array)


def _resampled_counts(items: int, samples: int, seed: int) -> Iterator[NDArray]:
    """How often each item is drawn in each sample: blocks of shape (some samples, N), every row adding up to N."""
    generator = np.random.default_rng(seed)
    block = max(1, CELLS_AT_ONCE // items)
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        drawn = generator.integers(items, size=(rows, items)) + items * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items).astype(float)


def _weighted_metric(metric: str | Callable) -> Callable[[NDArray, NDArray, NDArray], NDArray]:
    if isinstance(metric, str):
        return weighted_metrics.METRICS[metric]

    def by_repetition(predictions: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
        rows = (np.repeat(np.arange(len(labels)), drawn.astype(int)) for drawn in counts)
        return np.array([metric(predictions[row], labels[row]) for row in rows], dtype=float)

    return by_repetition
