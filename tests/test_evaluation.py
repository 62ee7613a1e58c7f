"""Metrics by hand-worked cases, baselines on small tasks that can be solved, and on one that can't."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest

from peft_helpers import baselines, evaluation, tasks


@dataclass(frozen=True)
class SmallTask:
    """The part of `tasks.Task` that the baselines use, without the datasets library."""

    kind: str
    metric: str
    text_columns: tuple[str, ...]
    splits: dict
    name: str = "small"

    def subset(self, count: int, seed: int = 0) -> SmallTask:
        chosen = random.Random(seed).sample(self.splits["train"], count)
        return replace(self, splits=self.splits | {"train": chosen})


def colors(train: int = 60, test: int = 40) -> SmallTask:
    """Red things are 1, blue things 0, in random company."""
    generator = random.Random(0)

    def row(i: int) -> dict:
        words = generator.choices(("a", "the", "old", "new", "big", "small", "car", "house", "tree"), k=6)
        words.insert(generator.randrange(6), "red" if i % 2 else "blue")
        return {"text": " ".join(words), "label": i % 2}

    return SmallTask(
        "classification",
        "accuracy",
        ("text",),
        {"train": [row(i) for i in range(train)], "test": [row(i) for i in range(test)]},
    )


def overlaps(train: int = 120, test: int = 60) -> SmallTask:
    """Pairs of six words; the score is how many they share."""
    generator = random.Random(1)
    words = [f"{a}{b}" for a in "kalomite" for b in ("ran", "ben", "dor", "sil", "tum")]

    def row() -> dict:
        shared = generator.randrange(7)
        drawn = generator.sample(words, 12 - shared)
        first, second = drawn[:6], drawn[6 - shared : 12 - shared]
        generator.shuffle(second)
        return {"first": " ".join(first), "second": " ".join(second), "label": float(shared)}

    return SmallTask(
        "regression",
        "spearman",
        ("first", "second"),
        {"train": [row() for _ in range(train)], "test": [row() for _ in range(test)]},
    )


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "expected"),
    [
        ("accuracy", [0, 1, 1, 0], [0, 1, 0, 0], 3 / 4),
        ("accuracy", [2, 1], [2, 0], 1 / 2),
        ("f1", [0, 1, 1, 0], [0, 1, 0, 1], 1 / 2),
        ("f1", [0, 0], [1, 0], 0),
        ("matthews", [1, 1, 0, 0], [1, 0, 1, 0], 0),
        ("matthews", [0, 1, 1], [1, 0, 0], -1),
        ("matthews", [1, 1, 1], [1, 0, 1], 0),
        ("spearman", [0.1, 0.2, 9], [1, 2, 3], 1),
        ("spearman", [3, 2, 1], [1, 2, 3], -1),
        ("spearman", [2, 2, 2], [1, 2, 3], 0),  # constant predictions: defined as 0
        ("spearman", [1, 2, 3], [2, 2, 2], 0),
        ("mse", [1, 2], [1, 4], 2),
    ],
)
def test_metrics_by_hand(metric, predictions, labels, expected):
    found = evaluation.score(metric, predictions, labels)
    assert type(found) is float and found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "says"),
    [
        ("bleu", [1], [1], "unknown metric 'bleu'; there are accuracy, f1"),
        ("accuracy", [1, 0], [1], "2 predictions for 1 labels"),
        ("accuracy", [], [], "predictions is empty"),
        ("spearman", [1, math.nan], [1, 2], "nan at row 1"),
        ("mse", [1, 2], [1, math.inf], "labels holds inf"),
        ("accuracy", [[0.2, 0.8]], [1], "argmax"),
        ("accuracy", [0.7], [1], "whole numbers; predictions holds 0.7 at row 0"),
        ("f1", [0, 2], [0, 1], "two classes 0 and 1; got 2"),
    ],
)
def test_bad_predictions_are_named(metric, predictions, labels, says):
    with pytest.raises(ValueError, match=says):
        evaluation.score(metric, predictions, labels)


def test_majority():
    assert evaluation.majority_score("accuracy", [1, 1, 0], [1, 0, 0, 0]) == 1 / 4
    assert evaluation.majority_score("accuracy", [1, 0], [0, 0, 1]) == 2 / 3  # a tie goes to the smaller class
    assert evaluation.majority_score("matthews", [1, 1, 0], [1, 0]) == 0
    assert evaluation.majority_score("spearman", [1.0, 2.5], [1, 2, 3]) == 0
    assert evaluation.majority_score("mse", [1, 3], [2, 4]) == 2


def test_bag_of_words_solves_what_words_decide():
    task = colors()
    found = baselines.bag_of_words(task)
    assert found.score == 1 and found.labels == 60 and found.split == "test"
    assert found.score == evaluation.score("accuracy", found.predictions, [row["label"] for row in task.splits["test"]])
    assert found.settings["C"] in baselines.STRENGTHS and "bag of words: accuracy 1.000 on test, 60 labels" in repr(
        found
    )


def test_bag_of_words_finds_overlap_in_pairs():
    found = baselines.bag_of_words(overlaps())
    assert found.score > 0.9 and "alpha" in found.settings


def test_pairs_can_be_classified_and_single_texts_scored():
    pairs = overlaps()
    same = {split: [row | {"label": int(row["label"] > 3)} for row in rows] for split, rows in pairs.splits.items()}
    assert baselines.bag_of_words(replace(pairs, kind="classification", metric="f1", splits=same)).score > 0.8
    assert baselines.bag_of_words(replace(colors(), kind="regression", metric="mse")).score < 0.15  # a constant: 0.25


def test_bag_of_words_uses_only_the_labels_that_it_is_given():
    task = colors()
    few = baselines.bag_of_words(task, count=12, seed=3)
    assert few.labels == 12 and few == baselines.bag_of_words(task, count=12, seed=3)
    # other labels in test change the score, never a prediction
    turned = replace(
        task, splits=task.splits | {"test": [row | {"label": 1 - row["label"]} for row in task.splits["test"]]}
    )
    assert baselines.bag_of_words(turned, count=12, seed=3).predictions == few.predictions


def test_words_that_say_nothing_give_nothing():
    generator = np.random.default_rng(0)
    task = colors(200, 400)
    noise = {
        split: [row | {"label": int(generator.integers(2))} for row in rows] for split, rows in task.splits.items()
    }
    assert abs(baselines.bag_of_words(replace(task, splits=noise)).score - 0.5) < 0.1


def test_very_few_examples_are_learned_from_without_folds():
    found = baselines.bag_of_words(replace(colors(), splits=colors().splits | {"train": colors().splits["train"][:2]}))
    assert found.labels == 2 and found.settings == {"C": 1.0}


def test_what_cannot_be_learned_from_is_refused():
    task = colors()
    with pytest.raises(ValueError, match="no split 'validation'; it has train, test"):
        baselines.bag_of_words(task, split="validation")
    one_class = [row for row in task.splits["train"] if row["label"]]
    with pytest.raises(ValueError, match=r"1 class\(es\)"):
        baselines.bag_of_words(replace(task, splits=task.splits | {"train": one_class}))
    with pytest.raises(ValueError, match="0 training examples"):
        baselines.bag_of_words(replace(task, splits=task.splits | {"train": []}))


@pytest.mark.parametrize("name", ["sentiment", "similarity"])
def test_pocket_tasks_are_neither_trivial_nor_hopeless_for_bag_of_words(name):
    task = tasks.load(name)
    found = baselines.bag_of_words(task)
    majority = evaluation.majority_score(task.metric, task.splits["train"]["label"], task.splits["test"]["label"])
    assert len(found.predictions) == 400 and majority + 0.05 < found.score < 0.9
