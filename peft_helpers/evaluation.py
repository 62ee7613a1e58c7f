"""Judging predictions: the tasks' metrics.

Scores are in natural units (an accuracy of 0.872, not 87.2). The metrics themselves are scikit-learn's and SciPy's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The share of predictions that are right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def f1(predictions: ArrayLike, labels: ArrayLike) -> float:
    """F1 of class 1 against class 0; 0 if class 1 is never predicted or never true.

    Raises:
        ValueError: classes other than 0 and 1.
    """
    from sklearn.metrics import f1_score

    strange = set(np.union1d(predictions, labels).tolist()) - {0, 1}
    if strange:
        raise ValueError(f"F1 is for the two classes 0 and 1; got {', '.join(f'{c:g}' for c in sorted(strange))} too")
    return float(f1_score(labels, predictions, zero_division=0.0))


def matthews(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Matthews correlation, −1 to 1; 0 if all predictions, or all labels, are one class."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def spearman(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Spearman's rank correlation, −1 to 1; defined as 0 if all predictions, or all labels, are equal: no order."""
    from scipy.stats import spearmanr

    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(spearmanr(predictions, labels).statistic)


def mse(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The mean squared error, in the labels' unit squared. Lower is better."""
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(labels, predictions))


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "spearman": spearman,
    "mse": mse,
}
CLASS_METRICS = ("accuracy", "f1", "matthews")


def score(metric: str, predictions: ArrayLike, labels: ArrayLike) -> float:
    """Score predictions, one number an item: a class, or for spearman and mse a value.

    Raises:
        ValueError: an unknown metric, unequal lengths, no items, more than one number an item, NaN or infinity,
            a class that is no whole number.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; there are {', '.join(METRICS)}")
    predicted, true = _column("predictions", predictions, metric), _column("labels", labels, metric)
    if len(predicted) != len(true):
        raise ValueError(
            f"there must be one prediction a label; got {len(predicted)} predictions for {len(true)} labels"
        )
    return METRICS[metric](predicted, true)


def _column(name: str, values: ArrayLike, metric: str) -> NDArray:
    column = np.asarray(values, dtype=float)
    if column.ndim != 1:
        raise ValueError(
            f"{name} must be one number an item, (N,); got shape {column.shape}. Of logits take the argmax"
        )
    if not len(column):
        raise ValueError(f"{name} is empty: there is nothing to score")
    if not np.isfinite(column).all():
        row = int(np.flatnonzero(~np.isfinite(column))[0])
        raise ValueError(f"{name} holds {column[row]} at row {row}; a model that gives NaN or infinity has no score")
    if metric in CLASS_METRICS:
        if (column != np.rint(column)).any():
            row = int(np.flatnonzero(column != np.rint(column))[0])
            raise ValueError(f"{metric} compares classes, whole numbers; {name} holds {column[row]:g} at row {row}")
        return column.astype(int)
    return column


def majority_score(metric: str, train_labels: ArrayLike, test_labels: ArrayLike) -> float:
    """What a constant answer scores: the commonest class of train (the smaller one of a tie), or train's mean."""
    train = _column("train_labels", train_labels, metric)
    constant = np.bincount(train).argmax() if metric in CLASS_METRICS else train.mean()
    return score(metric, np.full(np.shape(test_labels), constant), test_labels)
