"""The checkers of lesson 00: right answers pass in any style, wrong ones are refused by name, junk never raises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from checker_cases import (
    Wrong,
    assert_accepted,
    assert_edit_refused,
    assert_refused,
    assert_unanswered,
    judge,
    raises,
    written,
)
from notebook_rules import ROOT

from peft_helpers.checks import framework, reading

# ---------------------------------------------------------------- answers that are functions, as learners write them

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[tuple[str, int, str, str]]] = {}  # (slug, style, old, new): that style with one edit

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
    ("last-instead-of-best", 0, 'max(dev, key=lambda row: row["accuracy"])', "dev[-1]"),
    ("last-instead-of-best", 1, ' and row["accuracy"] > best', ""),
    ("lowest-loss", 0, 'max(dev, key=lambda row: row["accuracy"])', 'min(dev, key=lambda row: row["loss"])'),
    ("lowest-loss", 3, '(-row["accuracy"], row["step"])', 'row["loss"]'),
    ("training-score", 0, 'max(dev, key=lambda row: row["accuracy"])', 'min(history, key=lambda row: row["loss"])'),
    ("train-rows", 0, ' if row["split"] == "dev"', ""),
    ("train-rows", 1, 'row["split"] == "dev" and ', ""),
    ("worst-for-best", 0, "max(", "min("),
    ("worst-for-best", 2, "argmax", "argmin"),
    ("latest-of-equals", 1, "> best", ">= best"),
    ("latest-of-equals", 3, '(-row["accuracy"], row["step"])', '(-row["accuracy"], -row["step"])'),
    ("row-for-step", 0, '["step"]', ""),
    ("score-for-step", 0, '["step"]', '["accuracy"]'),
    ("score-for-step", 1, "return step", "return best"),
    ("index-for-step", 2, "np.array(steps)[np.argmax(scores)]", "np.argmax(scores)"),
    ("index-for-step", 0, 'max(dev, key=lambda row: row["accuracy"])["step"]', BY_INDEX),
    ("epoch-for-step", 0, '["step"]', '["epoch"]'),
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
    ("coin", 0, "test_labels.count(label) / len(test_labels)", "1 / len(set(test_labels))"),
    ("share-in-train", 1, "for y in test_labels) / len(test_labels)", "for y in train_labels) / len(train_labels)"),
    ("commonest-of-test", 1, "Counter(train_labels)", "Counter(test_labels)"),
    ("commonest-of-test", 2, "bincount(train_labels)", "bincount(test_labels)"),
    ("always-class-1", 1, "Counter(train_labels).most_common(1)[0][0]", "1"),
    ("count-for-share", 0, " / len(test_labels)", ""),
    ("count-for-share", 2, "np.mean", "np.sum"),
    ("class-for-share", 0, "return test_labels.count(label) / len(test_labels)", "return label"),
    ("error-rate", 2, "== label", "!= label"),
    ("error-rate", 1, "y == label", "y != label"),
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

CHECKERS = [*RIGHT, *VALUES]
WRONG_FUNCTIONS = [(checker, *wrong) for checker, table in WRONG.items() for wrong in table]
WRONG_VALUES = [(checker, slug, value) for checker, (_, table) in VALUES.items() for slug, value in table]


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize("checker", CHECKERS)
def test_without_an_answer_nothing_is_failed(checker: str) -> None:
    empty = {
        "check_claims": [dict.fromkeys(CLAIMS), {}],
        "check_loss_and_accuracy": [(None, None), {"loss": None, "accuracy": None}],
    }
    answers = [None, lambda *arguments: None] if checker in RIGHT else [None, *empty.get(checker, [])]
    for answer in answers:
        assert_unanswered(checker, answer)


@pytest.mark.parametrize(("checker", "style"), [(name, i) for name, all_ in RIGHT.items() for i in range(len(all_))])
def test_right_answers_pass_in_every_style(checker: str, style: int) -> None:
    assert_accepted(checker, written(RIGHT[checker][style]))


@pytest.mark.parametrize(("checker", "slug", "style", "old", "new"), WRONG_FUNCTIONS)
def test_wrong_functions_are_refused_by_name(checker: str, slug: str, style: int, old: str, new: str) -> None:
    assert_edit_refused(checker, RIGHT[checker], Wrong(slug, style, old, new))


@pytest.mark.parametrize(("checker", "value"), [(name, v) for name, (right, _) in VALUES.items() for v in right])
def test_right_values_pass(checker: str, value: Any) -> None:
    assert_accepted(checker, value)


@pytest.mark.parametrize(("checker", "slug", "value"), WRONG_VALUES)
def test_wrong_values_are_refused_by_name(checker: str, slug: str, value: Any) -> None:
    assert_refused(checker, value, slug)


def test_claims_can_be_answered_one_by_one() -> None:
    verdict = judge("check_claims", dict.fromkeys(CLAIMS) | {"A": "training-score", "F": "fine"})
    assert verdict.passed is None and "B, C, D, E" in verdict.message


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("it can't be printed")


JUNK = {
    "a string": "0.5",
    "an empty list": [],
    "a list of strings": ["a", "b"],
    "a boolean": True,
    "NaN": float("nan"),
    "inf": float("inf"),
    "a matrix": torch.ones(2, 2),
    "a dictionary": {"plain": "x"},
    "a dictionary with odd keys": {("A",): 1, None: 2},
    "odd values": {"A": Unprintable(), "loss": Unprintable()},
    "two odd values": (Unprintable(), Unprintable()),
    "an object": Unprintable(),
    "a type": dict,
    "a module": math,
    "a complex number": 1j,
    "raises": raises(ValueError("no")),
    "exits": raises(SystemExit(1)),
    "returns a string": lambda *arguments: "3",
    "returns its arguments": lambda *arguments: arguments,
    "returns an empty list": lambda *arguments: [],
    "returns an object": lambda *arguments: Unprintable(),
    "takes no arguments": lambda: 1.0,
    "spoils its arguments": lambda *arguments: [argument.clear() for argument in arguments],
    "spoils its rows": lambda rows, *more: [row.clear() for row in rows],
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("checker", CHECKERS)
def test_junk_is_refused_and_never_raises(checker: str, junk: str) -> None:
    verdict = judge(checker, JUNK[junk])
    assert verdict.passed in (False, None) and verdict.message
    if verdict.passed is None:  # only where nothing but None came back
        assert (junk, checker) in {
            ("an empty list", "check_loss_and_accuracy"),
            ("a dictionary", "check_loss_and_accuracy"),
            ("a dictionary with odd keys", "check_loss_and_accuracy"),
            ("spoils its arguments", "check_step_to_ship"),
            ("spoils its arguments", "check_majority_accuracy"),
        }
    assert reading.run_history()[0]["step"] == 0, "an answer must not change what the next one is asked"


@pytest.mark.parametrize("checker", RIGHT)
def test_the_exception_is_named(checker: str) -> None:
    verdict = judge(checker, raises(ArithmeticError("the reactor is warm")))
    assert verdict.mistake == "raised" and "ArithmeticError: the reactor is warm" in verdict.message


def test_every_mistake_has_a_known_wrong_answer() -> None:
    tried = {name: {slug for slug, *_ in table} for name, table in WRONG.items()}
    tried |= {name: {slug for slug, _ in table} for name, (_, table) in VALUES.items()}
    for checker, exercise in (
        ("check_step_to_ship", reading.STEP_TO_SHIP),
        ("check_majority_accuracy", reading.MAJORITY),
    ):
        assert {mistake.slug for mistake in exercise.mistakes} <= tried[checker]
        for mistake in exercise.mistakes:
            if mistake.variant:
                assert exercise.judge(mistake.variant).mistake == mistake.slug
    parts = [*reading.LOSS_AND_ACCURACY.parts.values(), reading.SHIPPED_STEP, reading.QUOTED_ACCURACY]
    names = ["check_loss_and_accuracy", "check_loss_and_accuracy", "check_shipped_step", "check_quoted_accuracy"]
    for checker, part in zip(names, parts, strict=True):
        assert isinstance(part, framework.NumberExercise)
        assert {wrong.slug for wrong in part.mistakes} <= tried[checker]
        for wrong in part.mistakes:
            if wrong.slug != "not-the-best":  # lists every row, the right one too
                assert abs(wrong.value - part.right) > 2 * part.tolerance * abs(part.right)


def test_the_docstring_lists_the_mistakes() -> None:
    for checker in CHECKERS:
        assert f"`{checker}`" in reading.__doc__
    listed = set(reading.__doc__.replace(",", " ").replace(";", " ").replace(":", " ").split())
    numbers = [*reading.LOSS_AND_ACCURACY.parts.values(), reading.SHIPPED_STEP, reading.QUOTED_ACCURACY]
    functions = [reading.STEP_TO_SHIP, reading.MAJORITY]
    assert {mistake.slug for exercise in [*numbers, *functions] for mistake in exercise.mistakes} <= listed


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
