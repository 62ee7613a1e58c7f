"""Metrics of weighted items, many weightings at once: what the bootstrap needs to score 10,000 samples in a second.

Every function takes predictions (N,), labels (N,) and counts (S, N), how often each item stands in each of S samples,
and returns S scores. With all counts 1 they equal the functions of `evaluation`, which a test compares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def correctness(predictions: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
    """The weighted mean of `predictions`, which say whether each item is right (0 to 1)."""
    return counts @ predictions / counts.sum(1)


def accuracy(predictions: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
    """The share of items whose prediction is the label."""
    return correctness((predictions == labels).astype(float), labels, counts)


def mse(predictions: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
    """The mean squared error."""
    return counts @ (predictions - labels) ** 2 / counts.sum(1)


def f1(predictions: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
    """F1 of class 1: 2 · hits / (predicted + true); 0 where class 1 is neither predicted nor true."""
    both = counts @ ((predictions == 1) & (labels == 1))
    either = counts @ (predictions == 1) + counts @ (labels == 1)
    return _ratio(2 * both, either)


def matthews(predictions: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
    """Matthews correlation for K classes (Gorodkin 2004, R_K); 0 where predictions or labels are constant."""
    classes = np.union1d(predictions, labels)
    predicted, true = (counts @ (values[:, None] == classes) for values in (predictions, labels))  # (S, K)
    total, right = counts.sum(1), counts @ (predictions == labels)
    covariance = right * total - (predicted * true).sum(1)
    return _ratio(covariance, np.sqrt((total**2 - (predicted**2).sum(1)) * (total**2 - (true**2).sum(1))))


def spearman(predictions: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
    """Spearman's rank correlation with average ranks for ties; 0 where predictions or labels are constant."""
    x, y = _weighted_ranks(predictions, counts), _weighted_ranks(labels, counts)
    middle = (counts.sum(1, keepdims=True) + 1) / 2  # the mean of ranks 1 … N, ties or not
    x, y = x - middle, y - middle
    return _ratio((counts * x * y).sum(1), np.sqrt((counts * x**2).sum(1) * (counts * y**2).sum(1)))


def _weighted_ranks(values: NDArray, counts: NDArray) -> NDArray:
    """(S, N): each item's average rank when item i occurs counts[:, i] times."""
    order = np.argsort(values, kind="stable")
    levels, level_of = np.unique(values, return_inverse=True)
    starts = np.searchsorted(values[order], levels)  # where each level begins among the sorted values
    occurrences = np.add.reduceat(counts[:, order], starts, axis=1)  # (S, levels)
    ranks = occurrences.cumsum(1) - occurrences + (occurrences + 1) / 2
    return ranks[:, level_of]


def _ratio(over: NDArray, under: NDArray) -> NDArray:
    """over / under; 0 where under is 0: the convention of `evaluation` for constant predictions."""
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


METRICS = {"accuracy": accuracy, "f1": f1, "matthews": matthews, "spearman": spearman, "mse": mse}
