"""The metrics of lesson 05 against scikit-learn and SciPy, its bootstrap against the library's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_helpers import evaluation, metrics, statistics

PAIRS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 1), min_size=n, max_size=n) for _ in range(2)])
)
SCORES = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-5, 5, width=16), min_size=n, max_size=n),
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5, 5.0]), min_size=n, max_size=n),
    )
)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(PAIRS)
@pytest.mark.filterwarnings("ignore:A single label")
def test_class_metrics_equal_scikit_learn(pair: tuple[list[int], list[int]]) -> None:
    predictions, labels = pair
    assert metrics.accuracy(predictions, labels) == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    for positive in (0, 1):
        expected = sklearn.metrics.f1_score(labels, predictions, pos_label=positive, zero_division=0.0)
        assert metrics.f1(predictions, labels, positive) == pytest.approx(expected, abs=1e-12)
    assert metrics.f1(predictions, labels) == pytest.approx(evaluation.f1(predictions, labels), abs=1e-12)
    expected = evaluation.matthews(predictions, labels)
    assert metrics.matthews(predictions, labels) == pytest.approx(expected, abs=1e-12)
    assert metrics.matthews(predictions, labels, positive=0) == pytest.approx(expected, abs=1e-12)


def test_matthews_equals_scikit_learn_and_does_not_overflow() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=300_000)
    predictions = np.where(generator.random(len(labels)) < 0.7, labels, 1 - labels)
    expected = sklearn.metrics.matthews_corrcoef(labels, predictions)
    assert metrics.matthews(predictions, labels) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(SCORES)
def test_ranks_and_spearman_equal_scipy(pair: tuple[list[float], list[float]]) -> None:
    predictions, scores = pair
    np.testing.assert_array_equal(metrics.average_ranks(predictions), scipy.stats.rankdata(predictions))
    assert metrics.spearman(predictions, scores) == pytest.approx(evaluation.spearman(predictions, scores), abs=1e-12)


def test_constant_answers_score_zero() -> None:
    """A constant has no order and no agreement beyond chance; accuracy and F1 do not notice."""
    labels = np.array([1] * 9 + [0])
    assert metrics.accuracy(np.ones(10), labels) == 0.9
    assert metrics.f1(np.ones(10), labels) == pytest.approx(18 / 19)
    assert metrics.f1(np.zeros(10), labels) == 0
    assert metrics.matthews(np.ones(10), labels) == 0
    assert metrics.matthews(labels, np.ones(10)) == 0
    assert metrics.spearman(np.full(10, 2.5), labels) == 0
    assert metrics.spearman(labels, np.full(10, 2.5)) == 0


@pytest.mark.parametrize(("items", "seed"), [(7, 0), (7, 3), (872, 3)])
def test_paired_interval_equals_the_library(items: int, seed: int) -> None:
    generator = np.random.default_rng(items)
    a, b = (generator.random((3, items)) < share for share in (0.8, 0.7))
    expected = statistics.paired_bootstrap(a, b, seed=seed)
    got = metrics.paired_interval(a.mean(axis=0), b.mean(axis=0), seed=seed)
    assert got == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_paired_interval_of_one_system_with_itself_is_zero() -> None:
    right = np.random.default_rng(0).random(50) < 0.7
    assert metrics.paired_interval(right, right) == (0, 0)
    low, high = metrics.paired_interval(right, right, level=0.5)
    assert low == high == 0


@pytest.mark.parametrize(
    "metric", [metrics.accuracy, metrics.f1, metrics.matthews, metrics.spearman, metrics.paired_interval]
)
@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ([], [], r"got shapes \(0,\) and \(0,\)"),
        ([1, 0], [1], r"got shapes \(2,\) and \(1,\)"),
        ([[1, 0]], [[1, 0]], r"got shapes \(1, 2\)"),
        ([1.0, float("nan")], [1, 0], "got nan at row 1"),
        ([1, 0], [float("inf"), 0], "got inf at row 0"),
    ],
)
def test_bad_input(metric, first, second, says) -> None:
    with pytest.raises(ValueError, match=says):
        metric(first, second)
