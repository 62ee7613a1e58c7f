"""Metrics and the paired bootstrap from scratch: what lesson 05 builds.

Shapes: N items, one prediction and one label each, (N,). Scores are in natural units. Everything equals scikit-learn,
SciPy and `statistics.paired_bootstrap`, which a test compares; the rest of the course uses those (`evaluation`,
`statistics`). The `require_…` functions at the end hold the input checks, so that the definitions above them show
nothing but the mathematics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# ---------------------------------------------------------------- classes


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The share of predictions that are right.

    Raises:
        ValueError: no items, unequal lengths, or numbers that are not finite.
    """
    predictions, labels = require_columns(predictions, labels)
    return float((predictions == labels).mean())


def f1(predictions: ArrayLike, labels: ArrayLike, positive: int = 1) -> float:
    """F1 of one class, 2·TP / (2·TP + FP + FN): the harmonic mean of precision and recall.

    0 where the class is neither predicted nor true.

    Raises:
        ValueError: no items, unequal lengths, or numbers that are not finite.
    """
    predictions, labels = require_columns(predictions, labels)
    predicted, true = predictions == positive, labels == positive
    hits, either = (predicted & true).sum(), predicted.sum() + true.sum()
    return float(2 * hits / either) if either else 0.0


def matthews(predictions: ArrayLike, labels: ArrayLike, positive: int = 1) -> float:
    """Matthews correlation of two classes (Matthews 1975): the correlation of two columns of yes and no, −1 to 1.

    (TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)); 0 where predictions, or labels, are all one class.

    Raises:
        ValueError: no items, unequal lengths, or numbers that are not finite.
    """
    predictions, labels = require_columns(predictions, labels)
    predicted, true = predictions == positive, labels == positive
    tp, fp = float((predicted & true).sum()), float((predicted & ~true).sum())
    fn, tn = float((~predicted & true).sum()), float((~predicted & ~true).sum())
    under = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / under**0.5 if under else 0.0


# ---------------------------------------------------------------- scores


def average_ranks(values: ArrayLike) -> NDArray:
    """The rank of each value, from 1; equal values share the mean of the ranks they take up. (N,) -> (N,)."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()  # the highest rank of each level
    return (last - (counts - 1) / 2)[level]


def spearman(predictions: ArrayLike, scores: ArrayLike) -> float:
    """Spearman's ρ: the correlation of the ranks, −1 to 1; 0 where predictions, or scores, are all equal.

    Raises:
        ValueError: no items, unequal lengths, or numbers that are not finite.
    """
    predictions, scores = require_columns(predictions, scores)
    x, y = average_ranks(predictions), average_ranks(scores)
    x, y = x - x.mean(), y - y.mean()
    under = ((x @ x) * (y @ y)) ** 0.5
    return float(x @ y / under) if under else 0.0


# ---------------------------------------------------------------- is the difference real?


def paired_interval(
    right_a: ArrayLike, right_b: ArrayLike, samples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of accuracy(a) − accuracy(b), both judged on the same drawn items.

    Args:
        right_a, right_b: (N,) whether each item is right, 0 to 1 (a share, where several runs are averaged).
        samples: S, how often N items are drawn with replacement.
        level: of the interval.
        seed: of the draws.

    Raises:
        ValueError: no items, unequal lengths, or numbers that are not finite.
    """
    right_a, right_b = require_columns(right_a, right_b)
    draws = np.random.default_rng(seed).integers(len(right_a), size=(samples, len(right_a)))  # (S, N)
    differences = right_a[draws].mean(axis=1) - right_b[draws].mean(axis=1)  # the same draws for both: paired
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# ---------------------------------------------------------------- input checks


def require_columns(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray]:
    """Two float columns of one length.

    Raises:
        ValueError: no items, unequal lengths, more than one number an item, or numbers that are not finite.
    """
    columns = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if columns[0].shape != columns[1].shape or columns[0].ndim != 1 or not columns[0].size:
        shapes = " and ".join(str(column.shape) for column in columns)
        raise ValueError(f"two columns of one length are compared, (N,) and (N,), N at least 1; got shapes {shapes}")
    for column in columns:
        if not np.isfinite(column).all():
            row = int(np.flatnonzero(~np.isfinite(column))[0])
            raise ValueError(f"every number must be finite; got {column[row]} at row {row}")
    return columns
