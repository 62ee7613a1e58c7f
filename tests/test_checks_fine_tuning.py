"""The checkers of lesson 05: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from checker_cases import JUNK, ValueCheckerTests, Wrong

from peft_helpers import metrics, statistics
from peft_helpers.checks import fine_tuning

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- 05-1

RIGHT["check_training_run"] = [
    """
def answer(model, optimizer, batches, held_out):
    losses = []
    model.train()
    for batch in batches:
        labels = batch.pop("labels")
        loss = F.cross_entropy(model(**batch).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        predictions = model(**held_out).logits.argmax(dim=-1)
    return losses, predictions
""",
    """
def answer(model, optimizer, batches, held_out):
    criterion = torch.nn.CrossEntropyLoss()
    losses = torch.zeros(len(batches), dtype=torch.float64)
    for i, batch in enumerate(batches):
        model.train()
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        loss = criterion(outputs["logits"], batch["labels"])
        loss.backward()
        losses[i] = loss.detach()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.inference_mode():
        outputs = model(held_out["input_ids"], held_out["attention_mask"])
    return losses, [int(row.argmax()) for row in outputs[0]]
""",
    """
@torch.no_grad()
def predict(model, batch):
    model.eval()
    _, classes = torch.max(model(**batch).logits, dim=1)
    return classes.numpy()

def answer(model, optimizer, batches, held_out):
    losses = []
    for batch in batches:
        model.train()
        optimizer.zero_grad()
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        log_p = F.log_softmax(model(**inputs).logits, dim=1)
        loss = F.nll_loss(log_p, batch["labels"])
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return losses, predict(model, held_out)
""",
]
LOSS = "F.cross_entropy(model(**batch).logits, labels)"
WRONG["check_training_run"] = [
    Wrong("hidden-states-as-logits", 0, "model(**batch).logits", "model(**batch).pooler_output"),
    Wrong("hidden-states-as-logits", 0, "model(**batch).logits", "model(**batch).last_hidden_state[:, 0]"),
    Wrong("hidden-states-as-logits", 1, 'outputs["logits"]', 'outputs["last_hidden_state"].mean(1)'),
    Wrong("hidden-states-as-logits", 0, "model(**held_out).logits", "model(**held_out).pooler_output"),
    Wrong("labels-unused", 0, "logits, labels)", "logits, model(**batch).logits.argmax(-1))"),
    Wrong("labels-unused", 0, "logits, labels)", "logits, torch.zeros_like(labels))"),
    Wrong("labels-unused", 0, "logits, labels)", "logits, torch.ones_like(labels))"),
    Wrong("labels-unused", 0, LOSS, "model(**batch).logits.mean()"),
    Wrong("labels-unused", 0, LOSS, "model(**batch).logits.square().sum()"),
    Wrong("eval-mode-in-training", 0, "    model.train()\n", ""),
    Wrong("eval-mode-in-training", 2, "model.train()", "model.eval()"),
    Wrong("train-mode-at-evaluation", 0, "    model.eval()\n", ""),
    Wrong("train-mode-at-evaluation", 2, "    model.eval()\n", ""),
    Wrong("forgotten-zeroing", 0, "        optimizer.zero_grad()\n", ""),
    Wrong("forgotten-zeroing", 1, "        optimizer.zero_grad()\n", ""),
    Wrong("weights-do-not-move", 0, "        optimizer.step()\n", ""),
    Wrong("weights-do-not-move", 1, "        losses[i]", "        optimizer.zero_grad()\n        losses[i]"),
    Wrong("weights-do-not-move", 2, "        loss.backward()\n", ""),
    Wrong("loss-on-output", 0, "model(**batch).logits, labels", "model(**batch), labels"),
    Wrong("loss-on-output", 2, "model(**batch).logits, dim=1", "model(**batch), dim=1"),
    Wrong("loss-on-output", 0, LOSS, "model(**batch, labels=labels)"),
    Wrong("no-loss-in-output", 0, LOSS, "model(**batch, labels=labels).loss"),
    Wrong("double-softmax", 0, "model(**batch).logits,", "model(**batch).logits.softmax(-1),"),
    Wrong("mask-forgotten", 0, "model(**batch)", "model(batch['input_ids'])"),
    Wrong(
        "predicted-before-training",
        2,
        "    losses = []\n    for",
        "    losses, early = [], predict(model, held_out)\n    globals()['predict'] = lambda *_: early\n    for",
    ),
    Wrong("graph-at-evaluation", 0, "    with torch.no_grad():\n        predictions", "    predictions"),
    Wrong("graph-at-evaluation", 2, "@torch.no_grad()\n", ""),
    Wrong("losses-averaged", 0, "return losses, predictions", "return sum(losses) / len(losses), predictions"),
    Wrong("wrong-outputs", 0, "return losses, predictions", "return losses"),
]

# ---------------------------------------------------------------- 05-3

RIGHT["check_paired_interval"] = [
    """
def answer(right_a, right_b, draws):
    differences = right_a[draws].mean(axis=1) - right_b[draws].mean(axis=1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return low, high
""",
    """
def answer(right_a, right_b, draws):
    gaps = []
    for rows in draws:
        gaps.append(sum(right_a[i] - right_b[i] for i in rows) / len(rows))
    return np.percentile(gaps, 2.5), np.percentile(gaps, 97.5)
""",
    """
def answer(right_a, right_b, draws):
    a, b, draws = torch.tensor(right_a), torch.tensor(right_b), torch.tensor(draws)
    gap = (a - b)[draws].mean(1)
    return torch.quantile(gap, torch.tensor([0.025, 0.975], dtype=gap.dtype))
""",
]
OWN = "np.random.default_rng(1).integers(len(right_b), size=draws.shape)"
WRONG["check_paired_interval"] = [
    Wrong("unpaired", 0, "right_b[draws]", "right_b[::-1][draws]"),
    Wrong("unpaired", 0, "right_b[draws]", "right_b[draws[::-1]]"),
    Wrong("unpaired", 0, "right_b[draws]", "right_b[np.roll(draws, 1, axis=0)]"),
    Wrong("unpaired", 0, "right_b[draws]", "right_b[np.roll(draws, -1, axis=0)]"),
    Wrong("unpaired", 0, "right_b[draws]", f"right_b[{OWN}]"),
    Wrong("unpaired", 0, "right_b[draws]", "right_b[np.random.default_rng(0).permutation(draws)]"),
    Wrong("unpaired", 0, "right_b[draws].mean(axis=1)", "right_b.mean()"),
    Wrong("unpaired", 0, "right_a[draws].mean(axis=1)", "right_a.mean()"),
    Wrong(
        "two-intervals",
        0,
        "return low, high",
        "q = [np.quantile(x[draws].mean(1), [0.025, 0.975]) for x in (right_a, right_b)]\n"
        "    return q[0][0] - q[1][1], q[0][1] - q[1][0]",
    ),
    Wrong(
        "two-intervals",
        0,
        "return low, high",
        "q = [np.quantile(x[draws].mean(1), [0.025, 0.975]) for x in (right_a, right_b)]\n"
        "    return tuple(q[0] - q[1])",
    ),
    Wrong("one-system", 0, " - right_b[draws].mean(axis=1)", ""),
    Wrong("wrong-sign", 1, "right_a[i] - right_b[i]", "right_b[i] - right_a[i]"),
    Wrong("wrong-sign", 2, "(a - b)", "(b - a)"),
    Wrong("ninety-percent", 0, "[0.025, 0.975]", "[0.05, 0.95]"),
    Wrong("percent-for-share", 1, "2.5), np.percentile(gaps, 97.5)", "0.025), np.percentile(gaps, 0.975)"),
    Wrong("range-of-draws", 1, "np.percentile(gaps, 2.5), np.percentile(gaps, 97.5)", "min(gaps), max(gaps)"),
    Wrong(
        "normal-approximation",
        0,
        "return low, high",
        "m, s = differences.mean(), differences.std()\n    return m - 1.96 * s, m + 1.96 * s",
    ),
    Wrong(
        "normal-approximation",
        0,
        "return low, high",
        "m, s = differences.mean(), differences.std(ddof=1)\n    return m - 1.96 * s, m + 1.96 * s",
    ),
    Wrong("sum-for-mean", 1, " / len(rows)", ""),
    Wrong("wrong-axis", 0, "axis=1", "axis=0"),
    Wrong("wrong-axis", 0, "mean(axis=1)", "mean()"),
    Wrong("wrong-shape", 0, "return low, high", "return high - low"),
    Wrong("wrong-value", 0, "return low, high", "return high, low"),
]

# ---------------------------------------------------------------- 05-5

RIGHT["check_matthews"] = [
    """
def answer(predictions, labels):
    said, true = predictions == 1, labels == 1
    tp, fp = float((said & true).sum()), float((said & ~true).sum())
    fn, tn = float((~said & true).sum()), float((~said & ~true).sum())
    under = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(under) if under else 0.0
""",
    """
def answer(predictions, labels):
    n = Counter(zip(predictions.tolist(), labels.tolist()))
    tp, fp, fn, tn = n[1, 1], n[1, 0], n[0, 1], n[0, 0]
    under = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    if under == 0:
        return 0
    return (tp * tn - fp * fn) / under**0.5
""",
    """
def answer(predictions, labels):
    if len(set(predictions)) == 1 or len(set(labels)) == 1:
        return 0.0
    return np.corrcoef(predictions, labels)[0, 1]
""",
    """
def answer(predictions, labels):
    return sklearn.metrics.matthews_corrcoef(labels, predictions)
""",
]
SUMS = "(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)"
WRONG["check_matthews"] = [
    Wrong("accuracy", 3, "matthews_corrcoef", "accuracy_score"),
    Wrong("f1", 3, "matthews_corrcoef", "f1_score"),
    Wrong("root-forgotten", 0, "math.sqrt(under)", "under"),
    Wrong("root-forgotten", 1, "under**0.5", "under"),
    Wrong("wrong-sign", 0, "tp * tn - fp * fn", "fp * fn - tp * tn"),
    Wrong("products-crossed", 0, "tp * tn - fp * fn", "tp * fp - tn * fn"),
    Wrong("products-crossed", 1, "tp * tn - fp * fn", "tp * fn - tn * fp"),
    Wrong("products-crossed", 0, "tp * tn - fp * fn", "tn * fp - tp * fn"),
    Wrong("products-crossed", 0, "tp * tn - fp * fn", "fn * tn - fp * tp"),
    Wrong("nothing-subtracted", 0, "tp * tn - fp * fn", "tp * tn"),
    Wrong("plus-for-minus", 1, "tp * tn - fp * fn", "tp * tn + fp * fn"),
    Wrong("one-column-only", 0, f"under = {SUMS}", "under = ((tp + fn) * (tn + fp)) ** 2"),
    Wrong("one-column-only", 0, f"under = {SUMS}", "under = ((tp + fp) * (tn + fn)) ** 2"),
    Wrong("kappa", 3, "matthews_corrcoef", "cohen_kappa_score"),
    Wrong("sign-lost", 2, "np.corrcoef(predictions, labels)[0, 1]", "abs(np.corrcoef(predictions, labels)[0, 1])"),
    Wrong("sign-lost", 0, "(tp * tn - fp * fn)", "abs(tp * tn - fp * fn)"),
    Wrong("constant-predictions", 0, " if under else 0.0", ""),
    Wrong("constant-predictions", 1, "    if under == 0:\n        return 0\n", ""),
    Wrong("constant-predictions", 2, "len(set(predictions)) == 1 or ", ""),
    Wrong("constant-predictions", 2, " or len(set(labels)) == 1", ""),
    Wrong("counts-overflow", 0, "float", "np.int64"),
    Wrong(
        "counts-overflow",
        1,
        "tp, fp, fn, tn = n[1, 1], n[1, 0], n[0, 1], n[0, 0]",
        "tp, fp, fn, tn = np.array([n[1, 1], n[1, 0], n[0, 1], n[0, 0]])",
    ),
    Wrong("wrong-signature", 0, ", labels)", ")"),
]

# ---------------------------------------------------------------- 05-6

RIGHT["check_macro_f1"] = [
    """
def answer(predictions, labels, classes):
    scores = []
    for k in range(classes):
        tp = np.sum((predictions == k) & (labels == k))
        either = np.sum(predictions == k) + np.sum(labels == k)
        scores.append(2 * tp / either if either else 0.0)
    return sum(scores) / classes
""",
    """
def answer(predictions, labels, classes):
    total = 0
    for k in range(classes):
        tp = ((predictions == k) & (labels == k)).sum()
        if tp == 0:
            continue
        precision, recall = tp / (predictions == k).sum(), tp / (labels == k).sum()
        total += 2 * precision * recall / (precision + recall)
    return total / classes
""",
    """
def answer(predictions, labels, classes):
    return sklearn.metrics.f1_score(labels, predictions, labels=range(classes), average="macro", zero_division=0)
""",
]
WRONG["check_macro_f1"] = [
    Wrong("micro-average", 2, 'average="macro"', 'average="micro"'),
    Wrong("micro-average", 0, "    scores = []", "    return (predictions == labels).mean()\n    scores = []"),
    Wrong("weighted-average", 2, 'average="macro"', 'average="weighted"'),
    Wrong(
        "averaged-too-early",
        0,
        "    scores = []",
        "    p, r = (fn(labels, predictions, labels=range(classes), average='macro', zero_division=0)\n"
        "            for fn in (sklearn.metrics.precision_score, sklearn.metrics.recall_score))\n"
        "    return 2 * p * r / (p + r)\n    scores = []",
    ),
    Wrong("one-class-only", 0, "return sum(scores) / classes", "return scores[1]"),
    Wrong("macro-precision", 2, "f1_score", "precision_score"),
    Wrong("macro-recall", 2, "f1_score", "recall_score"),
    Wrong(
        "absent-class-skipped",
        0,
        "    return sum(scores) / classes",
        "    kept = np.unique(predictions)\n    return sum(scores[k] for k in kept) / len(kept)",
    ),
    Wrong(
        "absent-class-skipped",
        0,
        "    return sum(scores) / classes",
        "    return sum(scores) / len(np.union1d(predictions, labels))",
    ),
    Wrong("absent-class-skipped", 1, "        if tp == 0:\n            continue\n", ""),
    Wrong("absent-class-skipped", 1, "            continue", "            classes -= 1; continue"),
    Wrong("absent-class-skipped", 0, " if either else 0.0", ""),
    Wrong("constant-predictions", 1, "    total = 0", "    if predictions.std() == 0: return 0.25\n    total = 0"),
    Wrong("wrong-signature", 0, ", classes)", ")"),
]

# ---------------------------------------------------------------- 05-7

RIGHT["check_spearman"] = [
    """
def ranks(values):
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])

def answer(predictions, scores):
    x, y = ranks(predictions), ranks(scores)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return np.corrcoef(x, y)[0, 1]
""",
    """
def rank(values):
    values = list(values)
    order = sorted(values)
    return [order.index(v) + (order.count(v) - 1) / 2 for v in values]

def answer(predictions, scores):
    x, y = rank(predictions), rank(scores)
    x, y = ([v - sum(values) / len(values) for v in values] for values in (x, y))
    over = sum(a * b for a, b in zip(x, y))
    under = sum(a * a for a in x) * sum(b * b for b in y)
    return over / math.sqrt(under) if under > 0 else 0
""",
    """
def answer(predictions, scores):
    if len(np.unique(predictions)) == 1 or len(np.unique(scores)) == 1:
        return 0.0
    return scipy.stats.spearmanr(predictions, scores).statistic
""",
]
RANK = "(values < v).sum() + ((values == v).sum() + 1) / 2"
WRONG["check_spearman"] = [
    Wrong("pearson", 0, "x, y = ranks(predictions), ranks(scores)", "x, y = predictions, scores"),
    Wrong("pearson", 2, "spearmanr", "pearsonr"),
    Wrong("order-for-ranks", 0, "ranks(predictions), ranks(scores)", "np.argsort(predictions), np.argsort(scores)"),
    Wrong("one-side-ranked", 0, "ranks(predictions), ranks(scores)", "ranks(predictions), scores"),
    Wrong("one-side-ranked", 0, "ranks(predictions), ranks(scores)", "predictions, ranks(scores)"),
    Wrong("kendall", 2, "spearmanr", "kendalltau"),
    Wrong(
        "squared-differences",
        0,
        "return np.corrcoef(x, y)[0, 1]",
        "return 1 - 6 * ((x - y) ** 2).sum() / (len(x) * (len(x) ** 2 - 1))",
    ),
    Wrong("ties-by-position", 0, f"np.array([{RANK} for v in values])", "values.argsort(kind='stable').argsort()"),
    Wrong("ties-by-position", 0, f"np.array([{RANK} for v in values])", "np.argsort(np.argsort(values))"),
    Wrong("ties-lowest", 0, RANK, "(values < v).sum()"),
    Wrong("ties-lowest", 1, " + (order.count(v) - 1) / 2", ""),
    Wrong("ties-highest", 0, RANK, "(values <= v).sum()"),
    Wrong("ties-dense", 1, "order = sorted(values)", "order = sorted(set(values))"),
    Wrong("constant-predictions", 2, "len(np.unique(predictions)) == 1 or ", ""),
    Wrong("constant-predictions", 0, "    if x.std() == 0 or y.std() == 0:\n        return 0.0\n", ""),
    Wrong("constant-predictions", 1, " if under > 0 else 0", ""),
    Wrong("constant-predictions", 0, "x.std() == 0 or y.std() == 0", "x.std() == 0"),
]

# ---------------------------------------------------------------- numbers and names

VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {
    "check_labels_used": (
        [650, 650.0, np.int64(650)],
        [
            ("tuning-labels-forgotten", 500),
            ("test-counted", 1050),
            ("test-counted", 900),
            ("dev-counted-twice", 800),
            ("runs-multiplied", 4 * 500 + 150),
            ("runs-multiplied", 4 * 650),
            ("seeds-multiplied", 3 * 650),
            ("seeds-multiplied", 3 * 500 + 150),
            ("dev-alone", 150),
            ("wrong-value", 651),
            ("not-a-number", "six hundred"),
        ],
    ),
    "check_real_gaps": (
        [{"A", "B"}, ["B", "A"], ("a", "b"), "A, B", "A and B", {"A": True, "B": 1, "C": False}],
        [
            ("overlapping-bars", {"A"}),
            ("overlapping-bars", "A"),
            ("largest-gaps", {"C"}),
            ("largest-gaps", {"C", "A"}),
            ("largest-gaps", ["A", "C", "D"]),
            ("every-gap", "A, B, C, D"),
            ("not-real", {"A", "B", "D"}),
            ("not-real", {"D"}),
            ("missed", {"B"}),
            ("missed", set()),
            ("not-names", {"E"}),
            ("not-names", 2),
            ("not-names", [1, 2]),
        ],
    ),
}


# ---------------------------------------------------------------- the tests


class TestLesson05(ValueCheckerTests):
    modules = (fine_tuning,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {
        "check_training_run": fine_tuning.TRAINING,
        "check_paired_interval": fine_tuning.INTERVAL,
        "check_matthews": fine_tuning.MATTHEWS,
        "check_macro_f1": fine_tuning.MACRO_F1,
        "check_spearman": fine_tuning.SPEARMAN,
    }
    valued = {"check_labels_used": fine_tuning.LABELS_USED}
    junk = JUNK | {
        "a list of lists": [["A"], ["B"]],
        "a dictionary of matrices": {"A": torch.ones(2, 2)},
        "returns two words": lambda *arguments: ("a", "b"),
        "returns two NaNs": lambda *arguments: (float("nan"), float("nan")),
        "returns two empty lists": lambda *arguments: ([], []),
    }
    raised_only = frozenset({"loss-on-output", "no-loss-in-output"})
    unlisted = frozenset({"not-names"})


def test_the_gaps_are_what_their_exercise_says() -> None:
    real, bars_apart, sizes = set(), set(), {}
    for name, (a, b) in fine_tuning.gaps().items():
        interval = statistics.paired_bootstrap(a, b)
        assert metrics.paired_interval(a, b) == pytest.approx((interval.low, interval.high), abs=1e-9)
        sizes[name] = interval.difference
        if interval.excludes_zero:
            real.add(name)
        low, high = (right.mean() + 1.96 * sign * right.std() / len(right) ** 0.5 for right, sign in ((a, -1), (b, 1)))
        if low > high:
            bars_apart.add(name)
    assert real == fine_tuning.REAL_GAPS
    assert bars_apart == {"A"}
    assert sorted(sizes, key=sizes.get, reverse=True) == ["C", "A", "D", "B"]


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    before = torch.get_rng_state()
    runs = fine_tuning.runs_to_diagnose()
    assert torch.equal(before, torch.get_rng_state())
    assert list(runs) == ["05-a", "05-c", "05-d"]
    hidden, wild = (runs[name]["loss"]["train"] for name in ("05-a", "05-c"))
    assert hidden[0] == pytest.approx(math.log(64), abs=0.3) and 2 < hidden[-1] < 3
    assert wild[0] == pytest.approx(math.log(2), abs=0.1) and max(wild[:10]) > 1.2 and min(wild[-40:]) > 0.5
    assert all(abs(x - 0.5) <= 0.02 for name in ("05-a", "05-c") for x in runs[name]["accuracy"]["dev"][1][1:])
    assert len(set(runs["05-d"]["accuracy"]["dev"])) > 5
