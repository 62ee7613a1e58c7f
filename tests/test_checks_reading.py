"""The checkers of lesson 00: right answers pass in any style, wrong ones are refused by name, junk never raises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from checker_cases import JUNK, ValueCheckerTests, Wrong, judge
from notebook_rules import ROOT

from peft_helpers.checks import reading

# ---------------------------------------------------------------- answers that are functions, as learners write them

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

RIGHT["check_step_to_ship"] = [
    """
def answer(history):
    dev = [row for row in history if row["split"] == "dev"]
    return max(dev, key=lambda row: row["accuracy"])["step"]
""",
    """
def answer(history):
    best, step = -1.0, None
    for row in history:
        if row["split"] == "dev" and row["accuracy"] > best:
            best, step = row["accuracy"], row["step"]
    return step
""",
    """
def answer(history):
    steps, scores = zip(*[(row["step"], row["accuracy"]) for row in history if "accuracy" in row])
    return np.array(steps)[np.argmax(scores)]
""",
    """
def answer(history):
    dev = [row for row in history if row["split"] == "dev"]
    dev.sort(key=lambda row: (-row["accuracy"], row["step"]))
    return torch.tensor(dev[0]["step"])
""",
]
BY_INDEX = "history.index(max(dev, key=lambda row: row['accuracy']))"
WRONG["check_step_to_ship"] = [
    Wrong("last-instead-of-best", 0, 'max(dev, key=lambda row: row["accuracy"])', "dev[-1]"),
    Wrong("last-instead-of-best", 1, ' and row["accuracy"] > best', ""),
    Wrong("lowest-loss", 0, 'max(dev, key=lambda row: row["accuracy"])', 'min(dev, key=lambda row: row["loss"])'),
    Wrong("lowest-loss", 3, '(-row["accuracy"], row["step"])', 'row["loss"]'),
    Wrong("training-score", 0, 'max(dev, key=lambda row: row["accuracy"])',
          'min(history, key=lambda row: row["loss"])'),
    Wrong("train-rows", 0, ' if row["split"] == "dev"', ""),
    Wrong("train-rows", 1, 'row["split"] == "dev" and ', ""),
    Wrong("worst-for-best", 0, "max(", "min("),
    Wrong("worst-for-best", 2, "argmax", "argmin"),
    Wrong("latest-of-equals", 1, "> best", ">= best"),
    Wrong("latest-of-equals", 3, '(-row["accuracy"], row["step"])', '(-row["accuracy"], -row["step"])'),
    Wrong("row-for-step", 0, '["step"]', ""),
    Wrong("score-for-step", 0, '["step"]', '["accuracy"]'),
    Wrong("score-for-step", 1, "return step", "return best"),
    Wrong("index-for-step", 2, "np.array(steps)[np.argmax(scores)]", "np.argmax(scores)"),
    Wrong("index-for-step", 0, 'max(dev, key=lambda row: row["accuracy"])["step"]', BY_INDEX),
    Wrong("epoch-for-step", 0, '["step"]', '["epoch"]'),
]  # fmt: skip

RIGHT["check_majority_accuracy"] = [
    """
def answer(train_labels, test_labels):
    label = max(set(train_labels), key=train_labels.count)
    return test_labels.count(label) / len(test_labels)
""",
    """
def answer(train_labels, test_labels):
    label = Counter(train_labels).most_common(1)[0][0]
    return sum(y == label for y in test_labels) / len(test_labels)
""",
    """
def answer(train_labels, test_labels):
    label = np.bincount(train_labels).argmax()
    return np.mean(np.array(test_labels) == label)
""",
    """
def answer(train_labels, test_labels):
    label = torch.mode(torch.tensor(train_labels)).values
    return (torch.tensor(test_labels) == label).double().mean()
""",
]
WRONG["check_majority_accuracy"] = [
    Wrong("coin", 0, "test_labels.count(label) / len(test_labels)", "1 / len(set(test_labels))"),
    Wrong("share-in-train", 1, "for y in test_labels) / len(test_labels)",
          "for y in train_labels) / len(train_labels)"),
    Wrong("commonest-of-test", 1, "Counter(train_labels)", "Counter(test_labels)"),
    Wrong("commonest-of-test", 2, "bincount(train_labels)", "bincount(test_labels)"),
    Wrong("always-class-1", 1, "Counter(train_labels).most_common(1)[0][0]", "1"),
    Wrong("largest-label", 0, "max(set(train_labels), key=train_labels.count)", "max(train_labels)"),
    Wrong("count-for-share", 0, " / len(test_labels)", ""),
    Wrong("count-for-share", 2, "np.mean", "np.sum"),
    Wrong("class-for-share", 0, "return test_labels.count(label) / len(test_labels)", "return label"),
    Wrong("error-rate", 2, "== label", "!= label"),
    Wrong("error-rate", 1, "y == label", "y != label"),
]  # fmt: skip

# ---------------------------------------------------------------- answers that are values

LN = math.log
LOSS = -(LN(0.8) + LN(0.7) + LN(0.1)) / 3
CLAIMS = {"A": "training-score", "B": "tuned-on-test", "C": "loss-as-percentage", "D": "majority-class",
          "E": "last-instead-of-best", "F": "fine"}  # fmt: skip
SPOKEN = {name: word.replace("-", " ").upper() for name, word in CLAIMS.items()}
VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {
    "check_loss_and_accuracy": (
        [
            (LOSS, 2 / 3), [0.961, 0.667], (0.96, 66.7), {"loss": LOSS, "accuracy": 67}, torch.tensor([LOSS, 2 / 3]),
            np.array([LOSS, 2 / 3]), (torch.tensor(LOSS), np.float64(2 / 3)), {"accuracy": 0.67, "loss": 0.961},
        ],
        [
            ("loss-as-percentage", (1 - 1.6 / 3, 2 / 3)), ("mean-probability", (1.6 / 3, 2 / 3)),
            ("log-of-mean", (-LN(1.6 / 3), 2 / 3)), ("sum-for-mean", (3 * LOSS, 2 / 3)), ("wrong-sign", (-LOSS, 2 / 3)),
            ("base-2", (LOSS / LN(2), 2 / 3)), ("base-10", (LOSS / LN(10), 2 / 3)),
            ("only-the-wrong-one", (-LN(0.1), 2 / 3)), ("wrong-value", (7.0, 2 / 3)),
            ("one-minus-loss", (LOSS, 1 - LOSS)), ("loss-as-percentage", (LOSS, LOSS)),
            ("mean-probability", (LOSS, 53.33)), ("error-rate", (LOSS, 1 / 3)), ("count-for-share", (LOSS, 2)),
            ("not-numbers", 0.96), ("not-numbers", (LOSS, 2 / 3, 1)), ("not-a-number", (LOSS, "67 %")),
        ],
    ),
    "check_shipped_step": (
        [100, 100.0, torch.tensor(100), np.int64(100), [100]],
        [
            ("last-instead-of-best", 200), ("training-score", 160), ("lowest-loss", 60), ("tuned-on-test", 120),
            ("step-zero", 0), ("row-number", 5), ("not-the-best", 80), ("not-the-best", 140), ("not-a-step", 90),
            ("not-a-step", 1000), ("not-a-step", -20), ("not-a-number", "100"),
        ],
    ),
    "check_quoted_accuracy": (
        [0.76, 76, 76.0, torch.tensor(0.76, dtype=torch.float64), np.float64(76), 0.7600],
        [
            ("training-score", 0.945), ("training-score", 94.5), ("training-score", 100), ("training-score", 1.0),
            ("dev-score", 0.785), ("dev-score", 78.5), ("tuned-on-test", 0.775), ("tuned-on-test", 77.5),
            ("last-instead-of-best", 75), ("last-instead-of-best", 0.75), ("loss-as-percentage", 0.548),
            ("loss-as-percentage", 54.8), ("loss-as-percentage", 0.452), ("step-zero", 0.5025), ("step-zero", 50),
            ("wrong-value", 0.9), ("not-a-number", "76 %"),
        ],
    ),
    "check_claims": (
        [CLAIMS, SPOKEN, {name: word.replace("-", "_") for name, word in CLAIMS.items()} | {"F": " Fine "}],
        [
            *(
                (f"{name.lower()}-not-{word}", CLAIMS | {name: word})
                for name in CLAIMS for word in reading.VERDICTS if word != CLAIMS[name]
            ),
            ("b-not-fine", {"B": "fine"}), ("not-a-choice", CLAIMS | {"C": "nonsense"}),
            ("not-a-choice", CLAIMS | {"C": 3}), ("unknown-claim", CLAIMS | {"G": "fine"}),
            ("not-a-dictionary", list(CLAIMS.values())),
        ],
    ),
}  # fmt: skip


# ---------------------------------------------------------------- the tests


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("it can't be printed")


class TestLesson00(ValueCheckerTests):
    modules = (reading,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {"check_step_to_ship": reading.STEP_TO_SHIP, "check_majority_accuracy": reading.MAJORITY}
    valued = {
        "check_loss_and_accuracy": reading.LOSS_AND_ACCURACY,
        "check_shipped_step": reading.SHIPPED_STEP,
        "check_quoted_accuracy": reading.QUOTED_ACCURACY,
    }
    half_answered = {
        "check_claims": [dict.fromkeys(CLAIMS), {}],
        "check_loss_and_accuracy": [(None, None), {"loss": None, "accuracy": None}],
    }
    junk = JUNK | {
        "an empty list": [],
        "two strings": ["a", "b"],
        "a dictionary with odd keys": {("A",): 1, None: 2},
        "odd values": {"A": Unprintable(), "loss": Unprintable()},
        "two odd values": (Unprintable(), Unprintable()),
        "an object": Unprintable(),
        "returns an odd object": lambda *arguments: Unprintable(),
        "spoils its arguments": lambda *arguments: [argument.clear() for argument in arguments],
        "spoils its rows": lambda rows, *more: [row.clear() for row in rows],
    }
    silent_junk = frozenset({
        ("an empty list", "check_loss_and_accuracy"),
        ("a dictionary", "check_loss_and_accuracy"),
        ("a dictionary with odd keys", "check_loss_and_accuracy"),
        ("spoils its arguments", "check_step_to_ship"),
        ("spoils its arguments", "check_majority_accuracy"),
    })  # fmt: skip
    raised_only = frozenset({"train-rows"})
    unlisted = frozenset(slug for slug, _ in VALUES["check_claims"][1])  # claim by claim: `a-not-fine` stands for all

    def test_no_answer_changes_what_the_next_one_is_asked(self, checker: str) -> None:
        for answer in self.junk.values():
            judge(checker, answer)
            assert reading.run_history()[0]["step"] == 0


def test_claims_can_be_answered_one_by_one() -> None:
    verdict = judge("check_claims", dict.fromkeys(CLAIMS) | {"A": "training-score", "F": "fine"})
    assert verdict.passed is None and "B, C, D, E" in verdict.message


def test_the_run_tells_the_mistakes_apart() -> None:
    """Each wrong way to read the table leads to another row, and shares fit 200 train, 200 dev and 400 test texts."""
    best = {
        "dev accuracy": 100, "test accuracy": 120, "dev loss": 60, "train accuracy": 160, "train loss": 200,
    }  # fmt: skip
    for column, step in best.items():
        values = [row[column] for row in reading.RUN]
        assert reading.RUN[values.index(min(values) if column.endswith("loss") else max(values))]["step"] == step
    for column, items in {"train accuracy": 200, "dev accuracy": 200, "test accuracy": 400}.items():
        for row in reading.RUN:
            assert row[column] * items == pytest.approx(round(row[column] * items), abs=1e-9)
    assert 290 / 400 == 0.725


def test_the_lesson_shows_the_claims_as_they_are_judged() -> None:
    text = (ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8")
    assert [claim for claim in reading.CLAIMS.values() if claim not in text] == []
