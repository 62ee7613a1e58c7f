"""Bootstrap intervals: against a slow loop, SciPy, and their own promise to cover the truth 95 times in 100."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from scipy.special import ndtri

from peft_helpers import evaluation, statistics, weighted_metrics


def two_systems(items: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels in {0, 1} and the predictions of an 80 % and a 70 % system whose errors go together."""
    generator = np.random.default_rng(seed)
    labels, hard = generator.integers(2, size=items), generator.random(items)
    a, b = (np.where(hard + generator.normal(0, 0.1, items) < right, labels, 1 - labels) for right in (0.8, 0.7))
    return a, b, labels


def slow_interval(metric, a, b, labels, samples=2000, seed=1):
    """The definition, item by item."""
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(samples):
        rows = [int(generator.integers(len(labels))) for _ in labels]
        draws.append(metric(a[rows], labels[rows]) - metric(b[rows], labels[rows]))
    return np.quantile(draws, [0.025, 0.975])


@pytest.mark.parametrize("metric", list(evaluation.METRICS))
def test_weighted_metrics_equal_the_plain_ones_on_repeated_items(metric):
    generator = np.random.default_rng(3)
    a, _, labels = two_systems(60)
    if metric in ("spearman", "mse"):
        a, labels = generator.integers(8, size=60) / 2, generator.integers(5, size=60) / 2  # with ties
    counts = generator.multinomial(60, np.full(60, 1 / 60), size=20)
    rows = [np.repeat(np.arange(60), drawn) for drawn in counts]
    expected = [evaluation.score(metric, a[row], labels[row]) for row in rows]
    assert weighted_metrics.METRICS[metric](a, labels, counts.astype(float)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ["spearman", "matthews", "f1"])
def test_weighted_metrics_of_constant_predictions_are_zero_as_in_evaluation(metric):
    constant, labels, counts = np.zeros(6), np.array([0, 1, 0, 1, 1, 0]), np.ones((2, 6))
    assert weighted_metrics.METRICS[metric](constant, labels, counts).tolist() == [0, 0]
    assert evaluation.score(metric, constant, labels) == 0


def test_weighted_matthews_with_three_classes():
    generator = np.random.default_rng(0)
    predictions, labels = generator.integers(3, size=(2, 50))
    weighted = weighted_metrics.matthews(predictions, labels, np.ones((1, 50)))
    assert weighted == pytest.approx([evaluation.matthews(predictions, labels)], abs=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "matthews", "spearman"])
def test_interval_equals_a_slow_loop(metric):
    a, b, labels = two_systems()
    fast = statistics.paired_bootstrap(a, b, labels=labels, metric=metric, samples=4000)
    # the loop calls SciPy's and scikit-learn's slow functions; accuracy alone is worth two thousand draws
    samples = 2000 if metric == "accuracy" else 600
    plain = {"accuracy": lambda p, y: np.mean(p == y)}.get(metric, evaluation.METRICS[metric])
    low, high = slow_interval(plain, a, b, labels, samples)
    assert fast.difference == pytest.approx(evaluation.score(metric, a, labels) - evaluation.score(metric, b, labels))
    assert (fast.low, fast.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_interval_equals_scipys():
    a, b, labels = two_systems()
    right_a, right_b = (a == labels).astype(float), (b == labels).astype(float)
    ours = statistics.paired_bootstrap(right_a, right_b, samples=20_000)
    theirs = scipy.stats.bootstrap(
        (right_a, right_b),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(7),
    ).confidence_interval
    one_item = 1 / len(labels)  # the ends lie on this grid
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1.01 * one_item)


def test_a_function_gives_what_the_named_metric_gives():
    a, b, labels = two_systems(50)
    named = statistics.paired_bootstrap(a, b, labels=labels, metric="accuracy", samples=500)
    function = statistics.paired_bootstrap(a, b, labels=labels, metric=lambda p, y: np.mean(p == y), samples=500)
    correctness = statistics.paired_bootstrap(a == labels, b == labels, samples=500)
    for other in (function, correctness):
        assert (other.difference, other.low, other.high) == pytest.approx((named.difference, named.low, named.high))


def test_interval_covers_the_true_difference_about_95_times_in_100():
    generator, trials, items, truth = np.random.default_rng(11), 400, 200, 0.08
    covered = 0
    for trial in range(trials):
        # both right 0.6, only a 0.18, only b 0.10, none 0.12
        kind = generator.choice(4, size=items, p=[0.6, 0.18, 0.10, 0.12])
        interval = statistics.paired_bootstrap(kind < 2, (kind == 0) | (kind == 2), samples=1000, seed=trial)
        covered += interval.low <= truth <= interval.high
    slack = 3.3 * math.sqrt(0.95 * 0.05 / trials)  # a binomial bound, once in a thousand seeds
    assert 0.95 - slack - 0.01 <= covered / trials <= 0.95 + slack  # a percentile interval is a touch narrow


def test_seeds_are_averaged_item_by_item_and_it_says_so():
    generator = np.random.default_rng(5)
    a, b = generator.random((3, 80)) < 0.8, generator.random((3, 80)) < 0.6
    together = statistics.paired_bootstrap(a, b)
    by_hand = statistics.paired_bootstrap(a.mean(0), b.mean(0))
    assert (together.low, together.high) == pytest.approx((by_hand.low, by_hand.high), abs=1e-12)
    assert "averaged over 3 seeds first" in repr(together) and "averaged" not in repr(by_hand)
    against_one = statistics.paired_bootstrap(a, b[0])
    assert against_one.seeds == (3, 1) and "3 and 1 seeds" in repr(against_one)


def test_seeds_with_labels_average_the_scores():
    a, b, labels = two_systems()
    other, _, _ = two_systems(seed=0)
    runs = np.stack([a, 1 - other])
    interval = statistics.paired_bootstrap(runs, b, labels=labels, metric="f1", samples=200)
    expected = np.mean([evaluation.f1(run, labels) for run in runs]) - evaluation.f1(b, labels)
    assert interval.difference == pytest.approx(expected)


def test_repr_reads_as_a_sentence():
    shown = statistics.Interval(0.032, 0.004, 0.061, 0.95, 400)
    assert repr(shown) == "+3.2 points, 95 % interval 0.4 … 6.1: excludes 0" and shown.excludes_zero
    assert (
        repr(statistics.Interval(-0.01, -0.03, 0.01, 0.9, 400)) == "-1.0 points, 90 % interval -3.0 … 1.0: includes 0"
    )
    assert repr(statistics.Interval(0.5, 0.1, 0.9, 0.95, 9, points=False)).startswith("+0.500, 95 % interval 0.100")


def test_same_seed_same_interval_and_equal_systems_differ_by_nothing():
    a, b, labels = two_systems()
    assert statistics.paired_bootstrap(a == labels, b == labels, samples=300) == statistics.paired_bootstrap(
        a == labels, b == labels, samples=300
    )
    same = statistics.paired_bootstrap(a == labels, a == labels, samples=300)
    assert (same.difference, same.low, same.high) == (0, 0, 0) and not same.excludes_zero


def test_an_end_at_zero_is_not_lost_to_rounding():
    """Sums of thirds are inexact: an interval that ends at 0 once 'excluded' it by 1e-17."""
    a = np.tile([[1, 1, 0], [1, 0, 0], [0, 1, 0]], 7)
    interval = statistics.paired_bootstrap(a, np.roll(a, 1, axis=0), samples=200)
    assert (interval.low, interval.high) == (0, 0) and not interval.excludes_zero


@pytest.mark.parametrize(
    ("a", "b", "more", "says"),
    [
        ([1, 0, 1], [1, 0], {}, "same items"),
        ([], [], {}, "at least 2"),
        ([1], [1], {}, "at least 2"),
        ([1, math.nan], [1, 0], {}, "not finite"),
        ([1, 2], [1, 0], {}, "0 to 1"),
        ([1, 0], [1, 0], {"metric": "f1"}, "give labels"),
        ([1, 0], [1, 0], {"labels": [1, 0], "metric": "bleu"}, "unknown metric 'bleu'"),
        ([1, 2], [1, 0], {"labels": [1, 0], "metric": "f1"}, "two classes 0 and 1"),
        ([1, 0.5], [1, 0], {"labels": [1, 0]}, "whole numbers"),
        ([1, 0], [1, 0], {"labels": [1, 0, 1]}, "one label an item"),
        ([1, 0], [1, 0], {"samples": 3}, "100 samples"),
        ([1, 0], [1, 0], {"level": 95}, "share between 0 and 1"),
        ([[[1]]], [1, 0], {}, "shaped"),
    ],
)
def test_bad_input_is_named(a, b, more, says):
    with pytest.raises(ValueError, match=says):
        statistics.paired_bootstrap(a, b, **more)


def test_items_needed_by_hand_and_by_simulation():
    difference, disagreement = 0.05, 0.15
    z, power = ndtri(0.975), ndtri(0.8)
    by_hand = (z * math.sqrt(disagreement) + power * math.sqrt(disagreement - difference**2)) ** 2 / difference**2
    needed = statistics.items_needed(difference, disagreement)
    assert needed == math.ceil(by_hand) == statistics.items_needed(-difference, disagreement)
    generator = np.random.default_rng(2)
    only_a = generator.binomial(needed, (disagreement + difference) / 2, size=20_000)
    only_b = generator.binomial(
        needed - only_a, (disagreement - difference) / 2 / (1 - (disagreement + difference) / 2)
    )
    found = np.abs(only_a - only_b) / np.sqrt(only_a + only_b) > z
    assert found.mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("wrong", [(0, 0.1), (0.2, 0.1), (0.1, 1.2), (0.1, 0.2, 1.0), (0.1, 0.2, 0.8, 0)])
def test_items_needed_refuses_what_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"got .*"):
        statistics.items_needed(*wrong)


def test_mean_and_spread():
    assert statistics.mean_and_spread([1, 2, 3]) == (2, 1, 3)
    single = statistics.mean_and_spread([0.5])
    assert single.mean == 0.5 and math.isnan(single.spread)
    for wrong in ([], [1, math.inf]):
        with pytest.raises(ValueError, match="values"):
            statistics.mean_and_spread(wrong)
