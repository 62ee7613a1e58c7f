"""The checkers of lesson 06: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from checker_cases import ValueCheckerTests, Wrong, judge

from peft_helpers import rate_range, schedules
from peft_helpers.checks import training_well

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- 06-1

RIGHT["check_cosine_schedule"] = [
    """
def answer(step, steps, warmup):
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / (steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
""",
    """
def answer(step, steps, warmup):
    if warmup and step < warmup:
        return np.float64(step) / warmup
    return np.cos(np.pi / 2 * (step - warmup) / (steps - warmup)) ** 2
""",
    """
def answer(step, steps, warmup):
    ramp = torch.tensor(step / warmup if step < warmup else 1.0, dtype=torch.float64)
    t = torch.tensor(max(0, step - warmup), dtype=torch.float64)
    return torch.minimum(ramp, 0.5 * (1 + torch.cos(torch.pi * t / (steps - warmup))))
""",
]
WAVE = "0.5 * (1 + math.cos(math.pi * progress))"
WRONG["check_cosine_schedule"] = [
    Wrong("linear-decay", 0, WAVE, "1 - progress"),
    Wrong("full-wave", 0, "math.pi * progress", "2 * math.pi * progress"),
    Wrong("no-half", 0, "0.5 * (1", "(1"),
    Wrong("shifted-wave", 0, WAVE, "math.cos(math.pi * progress)"),
    Wrong("shifted-wave", 0, WAVE, "math.cos(math.pi / 2 * progress)"),
    Wrong("degrees", 0, "math.pi * progress", "180 * progress"),
    Wrong(
        "warmup-forgotten",
        0,
        "    if step < warmup:\n        return step / warmup\n    progress = (step - warmup) / (steps - warmup)",
        "    progress = step / steps",
    ),
    Wrong("warmup-forgotten", 0, "return step / warmup", "return 1.0"),
    Wrong("warmup-from-one", 0, "return step / warmup", "return (step + 1) / warmup"),
    Wrong("warmup-over-all-steps", 0, "return step / warmup", "return step / steps"),
    Wrong(
        "warmup-as-share",
        0,
        "    if step < warmup",
        "    warmup = min(steps - 1, round(warmup * steps))\n    if step < warmup",
    ),
    Wrong("progress-from-zero", 0, "(step - warmup) / (steps - warmup)", "step / steps"),
    Wrong("progress-from-zero", 0, "(step - warmup) / (steps - warmup)", "(step - warmup) / steps"),
    Wrong("wave-too-short", 0, "/ (steps - warmup)", "/ (steps - warmup - 1)"),
    Wrong("divided-by-no-warmup", 1, "if warmup and step < warmup", "if step / warmup < 1"),
]

# ---------------------------------------------------------------- 06-2

RIGHT["check_range_reading"] = [
    """
def answer(rates, losses):
    lowest = np.argmin(losses)
    return rates[np.argmin(np.diff(losses[: lowest + 1]))]
""",
    """
def answer(rates, losses):
    best, chosen = 0.0, None
    for i in range(list(losses).index(min(losses))):
        fall = losses[i] - losses[i + 1]
        if fall > best:
            best, chosen = fall, rates[i]
    return float(chosen)
""",
    """
def answer(rates, losses):
    losses = torch.tensor(losses)
    falls = losses[:-1] - losses[1:]
    falls[losses.argmin():] = 0
    return torch.tensor(rates)[falls.argmax()]
""",
]
CUT = "losses[: lowest + 1]"
WRONG["check_range_reading"] = [
    Wrong("rate-at-minimum", 0, f"np.argmin(np.diff({CUT}))", "lowest"),
    Wrong("rate-behind-the-fall", 0, f"np.argmin(np.diff({CUT}))", f"np.argmin(np.diff({CUT})) + 1"),
    Wrong("rate-behind-the-fall", 1, "fall, rates[i]", "fall, rates[i + 1]"),
    Wrong("first-fall", 1, "if fall > best", "if fall > 0 and chosen is None"),
    Wrong("behind-the-minimum", 0, CUT, "losses"),
    Wrong("behind-the-minimum", 2, "    falls[losses.argmin():] = 0\n", ""),
    Wrong("steepest-rise", 0, f"np.argmin(np.diff({CUT}))", "np.argmax(np.diff(losses))"),
    Wrong("steepest-of-either-sign", 0, f"np.argmin(np.diff({CUT}))", "np.argmax(np.abs(np.diff(losses)))"),
    Wrong("slope-by-rate", 0, f"np.diff({CUT})", f"np.diff({CUT}) / np.diff(rates[: lowest + 1])"),
    Wrong("slope-by-rate", 1, "losses[i] - losses[i + 1]", "(losses[i] - losses[i + 1]) / (rates[i + 1] - rates[i])"),
    Wrong("last-rate", 0, "    lowest", "    return rates[-1]\n    lowest"),
    Wrong("index-for-rate", 0, f"rates[np.argmin(np.diff({CUT}))]", f"np.argmin(np.diff({CUT}))"),
    Wrong("loss-for-rate", 0, "return rates[", "return losses["),
]

# ---------------------------------------------------------------- 06-3

RIGHT["check_early_stopping"] = [
    """
def answer(model, train_epoch, dev_score, patience, epochs):
    scores, best, waited, kept = [], -math.inf, 0, None
    for _ in range(epochs):
        on_train = train_epoch(model)
        scores.append(dev_score(model))
        waited += 1
        if scores[-1] > best:
            best, waited = scores[-1], 0
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        if waited >= patience:
            break
    model.load_state_dict(kept)
    return scores
""",
    """
import copy

def answer(model, train_epoch, dev_score, patience, epochs):
    history = []
    best = None
    while len(history) < epochs:
        train_epoch(model)
        score = dev_score(model)
        history.append(score)
        if best is None or score > best[0]:
            best = (score, len(history), copy.deepcopy(model.state_dict()))
        elif len(history) - best[1] == patience:
            break
    model.load_state_dict(best[2])
    return np.array(history)
""",
    """
import copy

def answer(model, train_epoch, dev_score, patience, epochs):
    scores, champion = [], None
    for epoch in range(epochs):
        train_epoch(model)
        scores += [dev_score(model)]
        top = scores.index(max(scores))
        if top == epoch:
            champion = copy.deepcopy(model)
        if epoch - top >= patience:
            break
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), champion.parameters()):
            mine.copy_(theirs)
    return torch.tensor(scores, dtype=torch.float64)
""",
]
RESET = "        waited += 1\n        if scores[-1] > best:\n            best, waited = scores[-1], 0"
NO_RESET = "        waited += scores[-1] <= best\n        if scores[-1] > best:\n            best = scores[-1]"
BETTER = "if scores[-1] > best:\n            best, waited = scores[-1]"
INITIAL = (
    "    history = [dev_score(model)]\n    best = (history[0], 1, copy.deepcopy(model.state_dict()))\n    epochs += 1"
)
WRONG["check_early_stopping"] = [
    Wrong("watches-train", 0, BETTER, BETTER.replace("scores[-1]", "on_train")),
    Wrong("returns-last", 0, "    model.load_state_dict(kept)\n", ""),
    Wrong("returns-last", 1, "    model.load_state_dict(best[2])\n", ""),
    Wrong("best-not-copied", 0, "value.clone()", "value"),
    Wrong("best-not-copied", 1, "copy.deepcopy(model.state_dict())", "model.state_dict()"),
    Wrong("returns-last", 2, "copy.deepcopy(model)", "model"),
    Wrong("patience-off-by-one", 0, "waited >= patience", "waited > patience"),
    Wrong("patience-off-by-one", 1, "== patience", "== patience + 1"),
    Wrong("patience-off-by-one", 2, ">= patience", ">= patience - 1"),
    Wrong("ties-count-as-better", 0, "scores[-1] > best", "scores[-1] >= best"),
    Wrong("ties-count-as-better", 1, "score > best[0]", "score >= best[0]"),
    Wrong(
        "compares-with-previous",
        0,
        "        if waited >= patience",
        "        best = scores[-1]\n        if waited >= patience",
    ),
    Wrong("wait-never-reset", 0, RESET, NO_RESET),
    Wrong("lowest-for-highest", 1, "score > best[0]", "score < best[0]"),
    Wrong("never-stops", 0, "        if waited >= patience:\n            break\n", ""),
    Wrong("past-the-end", 0, "range(epochs)", "range(epochs + 1)"),
    Wrong("score-of-init", 1, "    history = []\n    best = None", INITIAL),
    Wrong("wrong-signature", 0, ", patience, epochs", ", patience"),
]

# ---------------------------------------------------------------- 06-5

RIGHT["check_penalized_gradient"] = [
    """
def answer(gradient, weights, l1, l2):
    return gradient + l1 * torch.sign(weights) + l2 * weights
""",
    """
def answer(gradient, weights, l1, l2):
    w = weights.clone().requires_grad_()
    penalty = l1 * w.abs().sum() + l2 / 2 * (w**2).sum()
    penalty.backward()
    return gradient + w.grad
""",
    """
def answer(gradient, weights, l1, l2):
    signs = (weights > 0).double() - (weights < 0).double()
    return (gradient + l1 * signs + l2 * weights).numpy()
""",
]
WRONG["check_penalized_gradient"] = [
    Wrong("l2-doubled", 0, "l2 * weights", "2 * l2 * weights"),
    Wrong("l2-doubled", 1, "l2 / 2", "l2"),
    Wrong("l2-halved", 0, "l2 * weights", "l2 / 2 * weights"),
    Wrong("l1-by-size", 0, "torch.sign(weights)", "weights.abs()"),
    Wrong("l1-by-size", 0, "torch.sign(weights)", "weights"),
    Wrong("l1-without-sign", 0, "l1 * torch.sign(weights)", "l1"),
    Wrong("swapped", 0, "l1 * torch.sign(weights) + l2 * weights", "l2 * torch.sign(weights) + l1 * weights"),
    Wrong("wrong-sign", 0, "gradient + l1 * torch.sign(weights) + l2", "gradient - l1 * torch.sign(weights) - l2"),
    Wrong("l1-forgotten", 0, " + l1 * torch.sign(weights)", ""),
    Wrong("l2-forgotten", 0, " + l2 * weights", ""),
    Wrong(
        "penalty-for-gradient",
        1,
        "    penalty.backward()\n    return gradient + w.grad",
        "    return gradient + penalty",
    ),
    Wrong(
        "penalty-for-gradient", 0, "l1 * torch.sign(weights) + l2 * weights", "l1 * weights.abs() + l2 / 2 * weights**2"
    ),
    Wrong("mean-for-sum", 1, "penalty.backward()", "(penalty / w.numel()).backward()"),
    Wrong("kink", 0, "torch.sign(weights)", "weights / weights.abs()"),
    Wrong("kink", 2, "(weights > 0)", "(weights >= 0)"),
]

# ---------------------------------------------------------------- 06-6

RIGHT["check_seed_summary"] = [
    """
def answer(scores):
    spread = np.std(scores, ddof=1)
    return np.mean(scores), spread, spread / math.sqrt(len(scores))
""",
    """
import statistics

def answer(scores):
    mean, deviation = statistics.mean(scores), statistics.stdev(scores)
    return [mean, deviation, deviation / len(scores) ** 0.5]
""",
    """
def answer(scores):
    x = torch.tensor(scores, dtype=torch.float64)
    return x.mean(), x.std(), float(scipy.stats.sem(scores))
""",
]
WRONG["check_seed_summary"] = [
    Wrong("population-deviation", 0, ", ddof=1", ""),
    Wrong("population-deviation", 1, "statistics.stdev", "statistics.pstdev"),
    Wrong("variance", 0, "np.std", "np.var"),
    Wrong("variance", 1, "statistics.stdev", "statistics.variance"),
    Wrong("best-for-mean", 0, "np.mean(scores), spread", "max(scores), spread"),
    Wrong("median-for-mean", 1, "statistics.mean(scores)", "statistics.median(scores)"),
    Wrong("range-for-deviation", 0, "np.std(scores, ddof=1)", "max(scores) - min(scores)"),
    Wrong("error-not-divided", 0, "spread / math.sqrt(len(scores))", "spread"),
    Wrong("divided-by-n", 0, "math.sqrt(len(scores))", "len(scores)"),
    Wrong("divided-by-n", 0, "len(scores))", "len(scores) - 1)"),
    Wrong(
        "percent",
        0,
        "return np.mean(scores), spread, spread / math.sqrt(len(scores))",
        "return 100 * np.mean(scores), 100 * spread, 100 * spread / math.sqrt(len(scores))",
    ),
    Wrong("wrong-outputs", 0, "return np.mean(scores), spread,", "return np.mean(scores),"),
]

# ---------------------------------------------------------------- 06-4

GOOD = {"A": "overfits", "B": "underfits", "C": "neither", "D": "neither"}
VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {
    "check_run_verdicts": (
        [GOOD, {name.lower(): verdict.upper() for name, verdict in GOOD.items()}],
        [
            ("gap-is-overfitting", GOOD | {"C": "overfits"}),
            ("gap-is-overfitting", GOOD | {"C": "overfits", "D": "underfits"}),
            ("dev-above-train", GOOD | {"D": "underfits"}),
            ("dev-above-train", GOOD | {"D": "overfits"}),
            ("both-bad-is-overfitting", GOOD | {"B": "overfits"}),
            ("turn-missed", GOOD | {"A": "neither"}),
            ("swapped", GOOD | {"A": "underfits", "B": "overfits"}),
            ("wrong-verdict", GOOD | {"B": "neither"}),
            ("wrong-verdict", GOOD | {"C": "underfits"}),
            ("not-verdicts", {"A": "overfits"}),
            ("not-verdicts", GOOD | {"C": "fine"}),
            ("not-verdicts", GOOD | {"C": 3}),
            ("not-verdicts", "A overfits"),
            ("not-verdicts", ["overfits"] * 4),
        ],
    ),
}


# ---------------------------------------------------------------- the tests


class TestLesson06(ValueCheckerTests):
    modules = (training_well,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {
        "check_cosine_schedule": training_well.COSINE,
        "check_range_reading": training_well.RANGE,
        "check_early_stopping": training_well.EARLY,
        "check_penalized_gradient": training_well.PENALIZED,
        "check_seed_summary": training_well.SEEDS,
    }
    half_answered = {"check_run_verdicts": [dict.fromkeys("ABCD"), GOOD | {"D": None}]}
    unlisted = frozenset({"not-verdicts"})
    raised_only = frozenset({"divided-by-no-warmup"})


def test_a_copied_model_starts_from_the_same_weight() -> None:
    assert copy.deepcopy(training_well.Counted()).weight.item() == 0


def test_an_endless_training_is_cut_short() -> None:
    def endless(model, train_epoch, dev_score, patience, epochs):
        while True:
            train_epoch(model)

    verdict = judge("check_early_stopping", endless)
    assert verdict.mistake == "raised" and "far more" in verdict.message


def test_the_solutions_are_the_librarys_functions() -> None:
    for steps, warmup in ((11, 0), (37, 7)):
        for step in range(steps):
            expected = schedules.schedule("cosine", step, steps, warmup)
            assert training_well.cosine(step, steps, warmup) == pytest.approx(expected, abs=1e-15)
    for dev, patience, epochs in training_well.PATIENT.values():
        scores, weight, trained, _ = training_well.run_patience(training_well.with_patience, dev, patience, epochs)
        stopped, kept = schedules.stopping_point(dev[1 : epochs + 1], patience)
        assert (trained, int(weight)) == (stopped + 1, kept + 1)
        assert scores.tolist() == dev[1 : trained + 1]


def test_range_curves_are_told_apart_by_every_reading() -> None:
    for rates, losses in training_well.range_tests().values():
        chosen, bottom = rate_range.steepest(rates, losses), rates[np.argmin(losses)]
        assert len(rates) == len(losses) and 2 < bottom / chosen < 300


def test_runs_to_sort_show_what_their_verdicts_say() -> None:
    runs = training_well.runs_to_sort()
    ends = {name: {split: y[-1] for split, y in run["loss"].items()} for name, run in runs.items()}
    a, b, c, d = (runs[name]["loss"] for name in "ABCD")
    assert ends["A"]["train"] < 0.05 and a["dev"][-1] > a["dev"].min() + 0.2
    assert ends["B"]["train"] > 0.6 and abs(b["train"] - b["dev"]).max() < 0.05
    assert (c["dev"] > c["train"])[2:].all() and c["dev"][-1] < c["dev"].min() + 0.02
    assert (d["dev"] < d["train"])[2:].all() and d["dev"][-1] < d["dev"].min() + 0.02
