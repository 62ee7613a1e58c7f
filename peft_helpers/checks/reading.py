"""The exercises of lesson 00: reading a training run, and what may be said of it.

00-1  two numbers: the right classes got 80 %, 70 % and 10 %; loss and accuracy of these three answers (4 min)
      checker: `check_loss_and_accuracy`
      mistakes, in the loss: loss-as-percentage, mean-probability, log-of-mean, sum-for-mean, wrong-sign, base-2,
        base-10, only-the-wrong-one; in the accuracy: one-minus-loss, loss-as-percentage, mean-probability,
        error-rate, count-for-share

00-2  a number: the step of `RUN` to ship, if accuracy is what counts (3 min)
      checker: `check_shipped_step`
      mistakes: last-instead-of-best, training-score, lowest-loss, tuned-on-test, step-zero, row-number,
        not-the-best, not-a-step

00-3  a number: the accuracy to quote for it, as a share or in percent (3 min)
      checker: `check_quoted_accuracy`
      mistakes: training-score, dev-score, tuned-on-test, last-instead-of-best, loss-as-percentage, step-zero

00-4  `step_to_ship(history)`: rows as `fit` writes them -> the step with the best dev accuracy, the earliest of
      equals (6 min)
      checker: `check_step_to_ship`
      mistakes: last-instead-of-best, lowest-loss, training-score, train-rows, worst-for-best, latest-of-equals,
        row-for-step, score-for-step, index-for-step, epoch-for-step

00-5  `majority_accuracy(train_labels, test_labels)`: lists of class numbers -> the accuracy on test of always
      answering train's commonest class (5 min)
      checker: `check_majority_accuracy`
      mistakes: coin, share-in-train, commonest-of-test, always-class-1, largest-label, count-for-share,
        class-for-share, error-rate

00-6  a dictionary: each of the six `CLAIMS` is "fine", or which mistake it makes (4 min)
      checker: `check_claims`
      mistakes: a-not-fine … (claim, chosen word)
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Refused,
    SeveralNumbers,
    Verdict,
    WrongNumber,
    as_choice,
    as_numbers,
    call,
    refused,
    unanswered,
)

COLUMNS = ("step", "train loss", "train accuracy", "dev loss", "dev accuracy", "test accuracy")
# Made up, in the shape of many real runs on few labels: train goes on falling, dev turns, test wobbles around dev.
RUN = tuple(
    dict(zip(COLUMNS, row, strict=True))
    for row in (
        (0, 0.702, 0.490, 0.698, 0.500, 0.5025),
        (20, 0.641, 0.640, 0.655, 0.610, 0.6125),
        (40, 0.522, 0.765, 0.561, 0.715, 0.7025),
        (60, 0.398, 0.845, 0.506, 0.755, 0.7475),
        (80, 0.287, 0.905, 0.519, 0.770, 0.7550),
        (100, 0.196, 0.945, 0.548, 0.785, 0.7600),
        (120, 0.121, 0.970, 0.602, 0.780, 0.7750),
        (140, 0.068, 0.985, 0.671, 0.775, 0.7700),
        (160, 0.037, 1.000, 0.748, 0.765, 0.7625),
        (180, 0.021, 1.000, 0.803, 0.770, 0.7575),
        (200, 0.012, 1.000, 0.841, 0.760, 0.7500),
    )
)


def as_share(answer: Any) -> Any:
    """76 (percent) as 0.76; everything that is no number, or no percentage, as it came."""
    try:
        number = float(as_numbers(answer).reshape(()))
    except Exception:  # strings, lists, None …: the exercise says what is wrong with them
        return answer
    return number / 100 if number > 1.5 else number


# ---------------------------------------------------------------- 00-1

GIVEN = (0.8, 0.7, 0.1)  # the probability that each text's right class got
LOSSES = [-math.log(p) for p in GIVEN]
MEAN_LOSS = sum(LOSSES) / 3

LOSS_AND_ACCURACY = SeveralNumbers(
    parts={
        "loss": NumberExercise(
            right=MEAN_LOSS,
            mistakes=[
                WrongNumber(
                    1 - sum(GIVEN) / 3,
                    "loss-as-percentage",
                    "That is the share of probability that went astray. A loss is no share: each text costs −ln p.",
                ),
                WrongNumber(
                    sum(GIVEN) / 3,
                    "mean-probability",
                    "That is the mean of the three probabilities. Take −ln of each first, then the mean.",
                ),
                WrongNumber(
                    -math.log(sum(GIVEN) / 3),
                    "log-of-mean",
                    "The mean was taken before the logarithm. Each text pays its own −ln p; the mean comes last.",
                ),
                WrongNumber(sum(LOSSES), "sum-for-mean", "That is the sum over the texts; the loss is their mean."),
                WrongNumber(
                    -MEAN_LOSS, "wrong-sign", "ln p is negative for p below 1, and the loss is −ln p: positive."
                ),
                WrongNumber(
                    MEAN_LOSS / math.log(2), "base-2", "That is in bits (log2). Losses use ln: `math.log` in Python."
                ),
                WrongNumber(MEAN_LOSS / math.log(10), "base-10", "That is log10. Losses use ln: `math.log` in Python."),
                WrongNumber(
                    LOSSES[2],
                    "only-the-wrong-one",
                    "Right answers cost something too, unless they were certain.",
                ),
            ],
            tolerance=0.005,
        ),
        "accuracy": NumberExercise(
            right=2 / 3,
            mistakes=[
                WrongNumber(
                    1 - MEAN_LOSS, "one-minus-loss", "Accuracy is not 1 − loss. Count: how many answers are right?"
                ),
                WrongNumber(MEAN_LOSS, "loss-as-percentage", "That is the loss. Count: how many answers are right?"),
                WrongNumber(
                    sum(GIVEN) / 3,
                    "mean-probability",
                    "Accuracy does not ask how sure an answer was: with two classes, above 50 % it counts 1, below 0.",
                ),
                WrongNumber(1 / 3, "error-rate", "That is the share of wrong answers, not of right ones."),
                WrongNumber(
                    2 / 100,
                    "count-for-share",
                    "2 is how many are right. Divide by the number of texts.",
                ),
            ],
            tolerance=0.006,  # 0.67 will do
        ),
    },
    praise="Right. One confident mistake makes most of the loss and costs the accuracy no more than a hesitant one.",
)


def check_loss_and_accuracy(answer: Any) -> Verdict:
    """Exercise 00-1: (loss, accuracy) of three answers whose right classes got 80 %, 70 % and 10 %."""
    given = answer.tolist() if isinstance(answer, Tensor | np.ndarray) else answer
    if isinstance(given, list | tuple) and len(given) == 2:
        given = [given[0], as_share(given[1])]
    elif isinstance(given, dict) and "accuracy" in given:
        given = given | {"accuracy": as_share(given["accuracy"])}
    parts = list(given.values() if isinstance(given, dict) else given) if isinstance(given, list | dict) else [given]
    if all(part is None for part in parts):
        return unanswered()
    return LOSS_AND_ACCURACY.judge(given)


# ---------------------------------------------------------------- 00-2

BEST = max(RUN, key=lambda row: row["dev accuracy"])
TESTED = max(RUN, key=lambda row: row["test accuracy"])
SHIPPED_STEP = NumberExercise(
    right=BEST["step"],
    mistakes=[
        WrongNumber(
            RUN[-1]["step"],
            "last-instead-of-best",
            "That is the last step, which is nothing but the last: dev was better before. Training does not know when "
            "to stop; you decide by the dev column.",
        ),
        WrongNumber(
            160,
            "training-score",
            "There train reaches 100 %: the model knows these texts by heart. What does it do with texts that it was "
            "not trained on?",
        ),
        WrongNumber(
            min(RUN, key=lambda row: row["dev loss"])["step"],
            "lowest-loss",
            "There the dev loss is lowest. Loss and accuracy need not agree, and what counts here is accuracy.",
        ),
        WrongNumber(
            TESTED["step"],
            "tuned-on-test",
            "That is the best row of test. Who chooses by test has used it up: no number is left that the choice has "
            "not flattered. Choose by dev.",
        ),
        WrongNumber(0, "step-zero", "At step 0 nothing has been learned: 50 % with two classes of equal size."),
        WrongNumber(
            RUN.index(BEST), "row-number", "That is the number of a row, counted from 0. Asked for is its step."
        ),
        *(
            WrongNumber(
                row["step"],
                "not-the-best",
                f"At step {row['step']} dev accuracy is {100 * row['dev accuracy']:.1f} %; another row has more.",
            )
            for row in RUN
        ),
    ],
    praise="Right: the best of dev, wherever train and test happen to be.",
    tolerance=1e-6,
)


def check_shipped_step(answer: Any) -> Verdict:
    """Exercise 00-2: the step of `RUN` whose weights to ship."""
    verdict = SHIPPED_STEP.judge(answer)
    if verdict.mistake == "wrong-value":
        return refused("not-a-step", f"The run was looked at every 20 steps, 0 to 200; {answer} is none of these.")
    return verdict


# ---------------------------------------------------------------- 00-3

QUOTED_ACCURACY = NumberExercise(
    right=BEST["test accuracy"],
    mistakes=[
        WrongNumber(
            BEST["train accuracy"],
            "training-score",
            "That is train: texts that the model has seen with their answers. It says how well it remembers.",
        ),
        WrongNumber(1.0, "training-score", "100 % is train at the end: the model knows these texts by heart."),
        WrongNumber(
            BEST["dev accuracy"],
            "dev-score",
            "That is dev, by which you chose this step among eleven: the luckiest of several is a little too good. "
            "There is a split that had no part in the choice.",
        ),
        WrongNumber(
            TESTED["test accuracy"],
            "tuned-on-test",
            "That is the best of the test column. It belongs to a step that you would not ship, and the best of eleven "
            "looks is partly luck.",
        ),
        WrongNumber(
            RUN[-1]["test accuracy"],
            "last-instead-of-best",
            "That is test after the last step. Which step do you ship?",
        ),
        WrongNumber(
            BEST["dev loss"],
            "loss-as-percentage",
            "That is a loss. It is measured in nats, not in percent, and no accuracy can be read off it.",
        ),
        WrongNumber(
            1 - BEST["dev loss"],
            "loss-as-percentage",
            "That is 1 minus a loss. A loss is no share of wrong answers: it can exceed 1.",
        ),
        WrongNumber(RUN[0]["test accuracy"], "step-zero", "That is test before any training."),
        WrongNumber(
            RUN[0]["dev accuracy"],
            "step-zero",
            "That is the dev column before any training: a coin's score.",
        ),
    ],
    praise="Right: test, once, for the step that dev chose.",
    tolerance=1e-3,
)


def check_quoted_accuracy(answer: Any) -> Verdict:
    """Exercise 00-3: the accuracy to quote for the shipped step of `RUN`."""
    return QUOTED_ACCURACY.judge(as_share(answer))


# ---------------------------------------------------------------- 00-4


def history(rows: Sequence[tuple[float, float, float]], steps: int = 20) -> list[dict[str, Any]]:
    """Rows as `training.fit` writes them, from (train loss, dev loss, dev accuracy) at every `steps` steps."""
    made = []
    for i, (train_loss, dev_loss, dev_accuracy) in enumerate(rows):
        at = {"step": i * steps, "epoch": i / 2}
        if i:
            made.append(at | {"split": "train", "loss": train_loss, "learning_rate": 5e-4, "seconds": 1.5 * i})
        made.append(at | {"split": "dev", "loss": dev_loss, "accuracy": dev_accuracy, "seconds": 1.5 * i + 0.25})
    return made


def run_history() -> list[dict[str, Any]]:
    """`RUN` as `training.fit` would have recorded it (it never looks at test)."""
    return history([(row["train loss"], row["dev loss"], row["dev accuracy"]) for row in RUN])


def dev_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["split"] == "dev"]


def best_row(rows: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    return max(dev_rows(rows), key=value)


def accuracy(row: dict[str, Any]) -> float:
    return row["accuracy"]


def asked(rows: Sequence[dict[str, Any]]) -> Callable[[Callable], Any]:
    """A probe's trial: the answer's step for a copy of these rows."""

    def run(function: Callable) -> Any:
        found = call(function, copy.deepcopy(list(rows)))
        if isinstance(found, dict):
            raise Refused("row-for-step", "it returns a whole row. Asked for is the row's step, one number.")
        return found

    return run


TIED = history([(0.7, 0.69, 0.5), (0.5, 0.55, 0.72), (0.3, 0.5, 0.75), (0.2, 0.52, 0.75), (0.1, 0.6, 0.71)], steps=15)
RISING = history([(0.7, 0.69, 0.52), (0.3, 0.52, 0.66), (0.4, 0.58, 0.61), (0.35, 0.57, 0.7)], steps=35)

STEP_TO_SHIP = FunctionExercise(
    right=lambda rows: best_row(rows, accuracy)["step"],
    probes=[
        Probe("the run of the exercise", asked(run_history())),
        Probe("a run with two equally good steps", asked(TIED)),
        Probe("a run that is best at its end", asked(RISING)),
    ],
    mistakes=[
        Mistake(
            "last-instead-of-best",
            "It returns the last step. Training does not stop where it is best: look through the dev rows.",
            lambda rows: dev_rows(rows)[-1]["step"],
        ),
        Mistake(
            "lowest-loss",
            "It returns the step of the lowest dev loss. Loss and accuracy need not agree, and accuracy counts.",
            lambda rows: best_row(rows, lambda row: -row["loss"])["step"],
        ),
        Mistake(
            "training-score",
            "It goes by the training loss, which says how well the model remembers. Go by the dev rows.",
            lambda rows: min((row for row in rows if row["split"] == "train"), key=lambda row: row["loss"])["step"],
        ),
        Mistake(
            "training-score",
            "It takes the lowest loss of all rows, and training has the lowest. Go by the dev rows, and by accuracy.",
            lambda rows: min(rows, key=lambda row: row["loss"])["step"],
        ),
        Mistake(
            "train-rows",
            'Rows of train have no accuracy, hence the KeyError. Look only at rows whose `split` is `"dev"`.',
            raises=("KeyError: 'accuracy'",),
        ),
        Mistake(
            "worst-for-best",
            "It returns the step where dev accuracy is lowest. Higher is better.",
            lambda rows: best_row(rows, lambda row: -row["accuracy"])["step"],
        ),
        Mistake(
            "latest-of-equals",
            "Of equally good steps it returns the latest; asked for is the earliest: the same score for less training.",
            lambda rows: best_row(rows[::-1], accuracy)["step"],
        ),
        Mistake(
            "score-for-step",
            "It returns the best accuracy. Asked for is the step where that was reached.",
            lambda rows: best_row(rows, accuracy)["accuracy"],
        ),
        Mistake(
            "index-for-step",
            "It returns the place of the row in the list. Asked for is the row's step.",
            lambda rows: dev_rows(rows).index(best_row(rows, accuracy)),
        ),
        Mistake(
            "index-for-step",
            "It returns the place of the row in the list. Asked for is the row's step.",
            lambda rows: list(rows).index(best_row(rows, accuracy)),
        ),
        Mistake(
            "epoch-for-step",
            "It returns the epoch. Asked for is the row's step.",
            lambda rows: best_row(rows, accuracy)["epoch"],
        ),
    ],
    praise="Right: dev rows, accuracy, the first of the best.",
)


def check_step_to_ship(answer: Any) -> Verdict:
    """Exercise 00-4: `step_to_ship(history)`."""
    return STEP_TO_SHIP.judge(answer)


# ---------------------------------------------------------------- 00-5


def commonest(labels: Sequence[int]) -> int:
    return Counter(labels).most_common(1)[0][0]


def share(labels: Sequence[int], label: int) -> float:
    return list(labels).count(label) / len(labels)


BALANCED_TEST = ([0] * 11 + [1] * 4, [1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0])
THREE_CLASSES = ([2, 1, 2, 0, 2, 1, 2, 1, 0], [0, 0, 1, 2, 0, 2, 1, 0, 0, 2, 1, 0, 2])
POSITIVE_MAJORITY = ([1, 1, 0, 1, 1], [1, 1, 0, 1, 0, 1, 1])

MAJORITY = FunctionExercise(
    right=lambda train, test: share(test, commonest(train)),
    probes=[
        Probe("two classes, test with another majority than train", lambda f: call(f, *map(list, BALANCED_TEST))),
        Probe("three classes", lambda f: call(f, *map(list, THREE_CLASSES))),
        Probe("mostly positive labels", lambda f: call(f, *map(list, POSITIVE_MAJORITY))),
    ],
    mistakes=[
        Mistake(
            "coin",
            "That is 1 / (number of classes), the score of guessing blindly. Always giving one and the same answer "
            "scores that answer's share of test.",
            lambda train, test: 1 / len(set(train)),
        ),
        Mistake(
            "share-in-train",
            "That is the commonest class's share of train. The answer comes from train, its score from test.",
            lambda train, test: share(train, commonest(train)),
        ),
        Mistake(
            "commonest-of-test",
            "The answer was chosen by looking at test's labels. Which class is commonest must be learned from train, "
            "even if that comes out worse.",
            lambda train, test: share(test, commonest(test)),
        ),
        Mistake(
            "always-class-1",
            "It always answers class 1. Which class is the commonest of train?",
            lambda train, test: share(test, 1),
        ),
        Mistake(
            "largest-label",
            "It answers with the largest class number (the `max` of the labels). Asked for is the class that occurs "
            "most often in train.",
            lambda train, test: share(test, max(train)),
        ),
        Mistake(
            "count-for-share",
            "That is how many test items it gets right. Accuracy is their share.",
            lambda train, test: list(test).count(commonest(train)),
        ),
        Mistake(
            "class-for-share",
            "It returns the commonest class itself. Asked for is how often that answer is right on test.",
            lambda train, test: commonest(train),
        ),
        Mistake(
            "error-rate",
            "That is the share of wrong answers; accuracy is the share of right ones.",
            lambda train, test: 1 - share(test, commonest(train)),
        ),
    ],
    praise="Right. A model that does not beat this number has learned nothing from the texts.",
)


def check_majority_accuracy(answer: Any) -> Verdict:
    """Exercise 00-5: `majority_accuracy(train_labels, test_labels)`."""
    return MAJORITY.judge(answer)


# ---------------------------------------------------------------- 00-6

CLAIMS = {
    "A": "After 160 steps our model is 100 % accurate.",
    "B": "We tried all eleven checkpoints on test. The best one reaches 77.5 %.",
    "C": "At step 100 the dev loss is 0.55, so about half of the answers are wrong.",
    "D": "On another task, where 290 of 400 test texts are negative, the model is right on 72.5 % before the first "
    "step: pretraining has done most of the work.",
    "E": "We trained for all 200 steps, as planned, and report test at the end: 75.0 %.",
    "F": "Dev chose step 100. The same weights get 76.0 % on test.",
}
VERDICTS = {
    "fine": "the weights were chosen on dev, and the number is theirs on test",
    "training-score": "a number from train is quoted",
    "tuned-on-test": "test took part in a choice",
    "last-instead-of-best": "the last weights are quoted although dev had seen better ones",
    "loss-as-percentage": "a loss is read as a share of answers",
    "majority-class": "one constant answer would score as much",
}
RIGHT_VERDICTS = dict(
    zip(
        CLAIMS,
        ("training-score", "tuned-on-test", "loss-as-percentage", "majority-class", "last-instead-of-best", "fine"),
        strict=True,
    )
)
LOOK = {
    "A": "In which column of the table does 100 % stand?",
    "B": "How was the best one found?",
    "C": "What is the unit of a loss, and what does the accuracy column say at that step?",
    "D": "What would a program score that answers 'negative' without reading?",
    "E": "Look down the dev column: is its last row the one you would ship?",
    "F": "Which split made the choice, and which one gave the number?",
}


def check_claims(answer: Any) -> Verdict:
    """Exercise 00-6: what is wrong with each claim, as {"A": "fine", …}."""
    if answer is None:
        return unanswered()
    if not isinstance(answer, dict):
        return refused("not-a-dictionary", 'The answer must be a dictionary like the stub\'s: {"A": "fine", …}.')
    if not all(isinstance(key, str) and key in CLAIMS for key in answer):
        return refused("unknown-claim", f"The claims are {', '.join(CLAIMS)}; the dictionary has other keys.")
    for name, right in RIGHT_VERDICTS.items():
        given = answer.get(name)
        if given is None:
            continue
        chosen = as_choice(given) if isinstance(given, str) else None
        if chosen not in VERDICTS:
            return refused("not-a-choice", f"Claim {name}: choose one of {', '.join(VERDICTS)}.")
        if chosen != right:
            return refused(
                f"{name.lower()}-not-{chosen}", f"Claim {name} is not {chosen} ({VERDICTS[chosen]}). {LOOK[name]}"
            )
    missing = [name for name in CLAIMS if answer.get(name) is None]
    if len(missing) == len(CLAIMS):
        return unanswered()
    if missing:
        return unanswered(f"Not answered yet: {', '.join(missing)}. The others are right.")
    return Verdict(True, "Right, all six. You will meet A to E in papers, posts and your own notes.")
