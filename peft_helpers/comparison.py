"""Comparing methods by their records: score against cost, the Pareto front, and whether a gap is real.

A *result* is one method with its settings on one task, with one number of labels: its records of several seeds, the
interval of its score over other test items, and what it costs by the calculator. Nothing here is trained.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peft_helpers import accounting, adapter_records, calculator, evaluation, methods, records, statistics, tasks
from peft_helpers import weighted_metrics as weighted
from peft_helpers.records import Record

FULL, PROBE, WORDS, MAJORITY = "full", "linear probe", "bag of words", "majority class"
SCRATCH = "scratch"  # the same network from random weights
LINES = (PROBE, WORDS)  # recorded baselines: no network is trained
BASELINES = (*LINES, SCRATCH)
COSTS = {  # name -> what it measures, its unit for people
    "trained": "trained parameters",
    "memory": "training memory, predicted (MB)",
    "stored": "file a task (MB)",
    "seconds": "seconds of training, recorded",
}
TOKENS = 32  # a text's length in the predicted memory, padding included
SAMPLES = 2000


@dataclass(frozen=True)
class Result:
    """One method on one task with one number of labels.

    Attributes:
        label: the records' own name, "Houlsby(bottleneck=64)".
        name: for people, "Houlsby 64", "full".
        method: the registered method with its settings; None for a baseline.
        runs: one record a seed.
        cost: on the records' backbone; None where its configuration is not here.
        low, high: 95 % interval of the mean score over other test items.
        right: (seeds, N): whether each answer is right; None without labels, or for another metric than accuracy.
    """

    label: str
    name: str
    method: methods.Method | None
    runs: tuple[Record, ...]
    cost: calculator.Cost | None
    low: float
    high: float
    right: NDArray | None = field(default=None, repr=False, compare=False)

    @property
    def score(self) -> float:
        """The mean over the seeds."""
        return float(np.mean([run.score for run in self.runs]))

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; NaN for one."""
        return statistics.mean_and_spread(run.score for run in self.runs).spread

    def price(self, what: str) -> float:
        """What it costs, by a name of `COSTS`: parameters, megabytes or seconds.

        Raises:
            ValueError: another name, or no configuration to predict from.
        """
        if what not in COSTS:
            raise ValueError(f"a cost is one of {', '.join(COSTS)}; got {what!r}")
        if what == "trained":
            return float(self.runs[0].parameters["trained"])
        if what == "seconds":
            return float(np.mean([run.seconds for run in self.runs]))
        if self.cost is None:
            raise ValueError(f"{self.runs[0].backbone} has no configuration here, so its {what} can't be predicted")
        return (self.cost.memory.total if what == "memory" else self.cost.file_bytes) / 1e6


@dataclass(frozen=True)
class Board:
    """Everything recorded on one task with one number of labels.

    Attributes:
        task, metric, labels, backbone, items: of the records; items counts the test split.
        results: by the records' name, fewest trained parameters first.
        lines: baseline -> mean score: majority class (where the labels are here), bag of words, linear probe.
        baselines: recorded ones with their runs: linear probe, bag of words, and the network from random weights.
        truth: the test labels; None where the data is not here (real data sets are not shipped).
    """

    task: str
    metric: str
    labels: int
    backbone: str
    items: int
    results: Mapping[str, Result]
    lines: Mapping[str, float]
    baselines: Mapping[str, Result]
    truth: NDArray | None = field(repr=False)

    @property
    def best(self) -> Result:
        """The highest mean score; of equals the one with fewer trained parameters."""
        return max(self.results.values(), key=lambda one: (one.score, -one.price("trained")))

    def front(self, what: str = "trained") -> list[Result]:
        """The results on the Pareto front of score against this cost, cheapest first."""
        every = list(self.results.values())
        return [every[i] for i in pareto_front([one.price(what) for one in every], [one.score for one in every])]

    def gap(self, a: str | Result, b: str | Result) -> Gap:
        """Is the difference of these two real? See `gap`."""
        every = {**self.results, **self.baselines}
        a, b = (every[one] if isinstance(one, str) else one for one in (a, b))
        return gap(a, b, self.truth)

    def tied(self) -> list[Result]:
        """The best result and all whose difference from it is not shown by these test items."""
        best = self.best
        return [one for one in self.results.values() if one is best or not self.shown(best, one)]

    def shown(self, a: Result, b: Result) -> bool | None:
        """Whether the difference is real; None where it can't be judged, for lack of the test labels."""
        try:
            return self.gap(a, b).real
        except ValueError:
            return None


# ---------------------------------------------------------------- the front


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """The indices that no other beats: none is as cheap and better, or cheaper and as good. Cheapest first.

    Of two that are equal in both, the first is taken.

    Args:
        costs: the smaller the better. scores: the larger the better.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    front, best = [], -math.inf
    for i in order:
        if scores[i] > best:
            front.append(i)
            best = scores[i]
    return front


# ---------------------------------------------------------------- is it real?


def paired_interval(right_a: NDArray, right_b: NDArray, samples: int, seed: int) -> tuple[float, float]:
    """95 % interval of accuracy(a) − accuracy(b), both on the same drawn items: the paired bootstrap from scratch.

    Args:
        right_a, right_b: (N,): 1 where the answer to an item is right, else 0.
        samples: S, how often N items are drawn with replacement.
        seed: of the draws.
    """
    difference = right_a - right_b
    draws = np.random.default_rng(seed).integers(len(difference), size=(samples, len(difference)))
    return tuple(np.quantile(difference[draws].mean(1), [0.025, 0.975]).tolist())


def unpaired_interval(right_a: NDArray, right_b: NDArray, samples: int, seed: int) -> tuple[float, float]:
    """The same with items of its own for each system: right for two different test sets, too wide for one."""
    generator = np.random.default_rng(seed)
    shape = (samples, len(right_a))
    a, b = (right[generator.integers(shape[1], size=shape)].mean(1) for right in (right_a, right_b))
    return tuple(np.quantile(a - b, [0.025, 0.975]).tolist())


def counted_interval(wins: int, losses: int, items: int, samples: int = SAMPLES, seed: int = 0) -> tuple[float, float]:
    """The paired interval from three counts: items where only a is right, only b, and both or neither.

    Drawing N items with replacement draws these three counts from a multinomial distribution, so the draws of the
    items themselves are not needed.

    Raises:
        ValueError: counts that are negative or more than the items.
    """
    if min(wins, losses) < 0 or items < 2 or wins + losses > items:
        raise ValueError(f"wins and losses are counts of at most {items} items; got {wins} and {losses}")
    shares = [wins / items, losses / items, 1 - (wins + losses) / items]
    drawn = np.random.default_rng(seed).multinomial(items, shares, size=samples)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / items, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Gap:
    """Two results, a before b, compared item by item.

    Attributes:
        interval: of score(a) − score(b).
        disagreement: the share of items on which exactly one of two runs is right, mean over pairs of runs; None for
            another metric than accuracy.
        needed: items to find a true difference as large as the measured one with 80 % chance, for one run each; None
            without a difference or a disagreement.
        seeds: standard deviations of the two scores over seeds.
        note: what the comparison could not use.
    """

    a: str
    b: str
    interval: statistics.Interval
    disagreement: float | None
    needed: int | None
    seeds: tuple[float, float]
    note: str = ""

    @property
    def real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.excludes_zero

    def verdict(self) -> str:
        """One or two sentences with the figures."""
        first = f"{self.a} against {self.b}: {self.interval}. "
        if self.real:
            told = f"On other items of this kind {self.a if self.interval.low > 0 else self.b} would be ahead, too."
        elif self.needed is None:
            told = "No difference is shown."
        else:
            told = (
                f"No difference is shown. If the true one were as large, it would take about {self.needed:,} items "
                f"to find it with 80 % chance; there are {self.interval.items:,}."
            )
        return first + told + (f" ({self.note})" if self.note else "")


def gap(a: Result, b: Result, truth: ArrayLike | None) -> Gap:
    """Is the difference real? The paired interval, the disagreement, and how many items it would take.

    Without the test labels two answers of one run each can still be compared where there are two classes: on every item
    where they differ exactly one is right, and the two accuracies say how often each.

    Raises:
        ValueError: other items or another metric, or labels that are needed and not here.
    """
    metrics = {one.runs[0].metric for one in (a, b)}
    items = {len(run.predictions) for one in (a, b) for run in one.runs}
    known_as = {(run.task, run.split) for one in (a, b) for run in one.runs}
    if len(metrics) > 1 or len(items) > 1 or len(known_as) > 1:
        raise ValueError(f"{a.name} and {b.name} were not judged on the same items by the same metric")
    (metric,), (count,) = metrics, items
    spreads, note = (a.spread, b.spread), ""
    if truth is None:
        wins, losses = _wins_without_labels(a.runs[0], b.runs[0])
        low, high = counted_interval(wins, losses, count)
        interval = statistics.Interval((wins - losses) / count, low, high, 0.95, count)
        psi: float | None = (wins + losses) / count
        note = "the data is not here, so only the first run of each is compared" if len(a.runs) > 1 else ""
    elif metric == "accuracy":
        right_a, right_b = (right_answers(one.runs, truth) for one in (a, b))
        interval = statistics.paired_bootstrap(right_a, right_b, samples=SAMPLES)
        psi = float(np.mean([np.abs(x - y).mean() for x in right_a for y in right_b]))
    else:
        predictions = ([run.predictions for run in one.runs] for one in (a, b))
        interval = statistics.paired_bootstrap(*predictions, labels=truth, metric=metric, samples=SAMPLES)
        psi = None
    delta, needed = interval.difference, None
    if psi is not None and 1e-9 < abs(delta) <= psi:
        needed = statistics.items_needed(delta, psi)
    return Gap(a.name, b.name, interval, psi, needed, spreads, note)


def _wins_without_labels(a: Record, b: Record) -> tuple[int, int]:
    """(items where only a is right, only b) from predictions of two classes and the two accuracies."""
    x, y = np.array(a.predictions), np.array(b.predictions)
    if a.metric != "accuracy" or not set(np.union1d(x, y).tolist()) <= {0, 1}:
        raise ValueError(
            f"the labels of {a.task} are not here, and without them only two classes judged by accuracy can be "
            "compared item by item; set PEFT_DATA to a folder with the data"
        )
    differ, ahead = int((x != y).sum()), round((a.score - b.score) * len(x))
    return (differ + ahead) // 2, (differ - ahead) // 2


def right_answers(runs: Iterable[Record], truth: ArrayLike) -> NDArray:
    """(seeds, N): 1 where a run's answer is the label."""
    return np.array([np.equal(run.predictions, truth) for run in runs], dtype=float)


def score_interval(runs: Sequence[Record], truth: ArrayLike | None, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the runs' mean score over other test items (bootstrap).

    Without the labels, which only accuracy allows, that of a single run of this mean score.

    Raises:
        ValueError: no labels, and another metric than accuracy.
    """
    metric, count = runs[0].metric, len(runs[0].predictions)
    generator, ends = np.random.default_rng(0), [(1 - level) / 2, (1 + level) / 2]
    if truth is None:
        if metric != "accuracy":
            return math.nan, math.nan
        mean = float(np.mean([run.score for run in runs]))
        draws = generator.binomial(count, min(1.0, max(0.0, mean)), size=SAMPLES) / count
    else:
        counts = generator.multinomial(count, np.full(count, 1 / count), size=500 if metric == "spearman" else SAMPLES)
        one, labels = weighted.METRICS[metric], np.asarray(truth, dtype=float)
        counts = counts.astype(float)
        draws = np.mean([one(np.asarray(run.predictions, dtype=float), labels, counts) for run in runs], axis=0)
    low, high = np.quantile(draws, ends)
    return float(low), float(high)


# ---------------------------------------------------------------- false alarms


def false_alarms(
    items: int = 400, disagreement: float = 0.2, rounds: int = 10_000, samples: int = SAMPLES, seed: int = 0
) -> float:
    """How often the paired interval leaves out 0 though both systems are equally good: it should be 5 %.

    Each round draws a test set anew: on a share of the items exactly one of the two is right, each as likely.

    Raises:
        ValueError: a disagreement outside 0 to 1, or no rounds.
    """
    if not 0 < disagreement <= 1 or rounds < 1:
        raise ValueError(f"disagreement lies in (0, 1], rounds from 1 on; got {disagreement} and {rounds}")
    generator = np.random.default_rng(seed)
    differ = generator.binomial(items, disagreement, size=rounds)
    wins = generator.binomial(differ, 0.5)
    pairs, times = np.unique(np.stack([wins, differ - wins]), axis=1, return_counts=True)
    alarms = 0
    for (won, lost), how_often in zip(pairs.T.tolist(), times.tolist(), strict=True):
        low, high = counted_interval(won, lost, items, samples, seed=won * items + lost)
        alarms += how_often * (low > 0 or high < 0)
    return alarms / rounds


def best_of_equals(methods_tried: int, items: int = 400, accuracy: float = 0.8, rounds: int = 4000, seed: int = 0):
    """The mean test score of the best of k equally good configurations, chosen on test itself; k = 1 is honest."""
    generator = np.random.default_rng(seed)
    scores = generator.binomial(items, accuracy, size=(rounds, methods_tried)) / items
    return float(scores.max(1).mean())


# ---------------------------------------------------------------- reading records


def method_of(record: Record) -> methods.Method | None:
    """The registered method with the record's settings; None for baselines, and for what is not registered."""
    name, settings = adapter_records.parse(record)
    if record.method == FULL:
        return methods.FullFineTuning()
    if name not in methods.REGISTRY:
        return None
    try:
        return methods.make(name, **settings)
    except ValueError:  # a setting that has been renamed since: the record stays readable, the method is not rebuilt
        return None


@functools.cache
def _truth(task: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """(train labels, test labels) of a shipped task; None for data that is not here."""
    if not _is_here(task):
        return None
    splits = tasks.load(task).splits
    return tuple(splits["train"]["label"]), tuple(splits["test"]["label"])


def shelf(folder: str | Path | None = None, **equal: Any) -> list[Record]:
    """Records of methods and baselines on test splits, made with the weights that are installed (or with none)."""
    found = records.load(folder, split="test", **equal)
    found = [r for r in found if r.method in BASELINES or method_of(r) is not None]
    found = [r for r in found if "experiment" not in r.settings]  # single runs of other lessons
    with_weights = [r for r in found if r.backbone != "none"]
    return adapter_records.own(with_weights) + [r for r in found if r.backbone == "none"]


def tables(backbone: str = "pocket-bert", folder: str | Path | None = None) -> dict[tuple[str, int], set[str]]:
    """(task, labels) -> the methods recorded there; tasks whose data is here first, then those with most methods."""
    found: dict[tuple[str, int], set[str]] = {}
    for record in shelf(folder):
        if record.backbone == backbone and record.method not in BASELINES:
            found.setdefault((record.task, record.labels), set()).add(record.method)
    return dict(sorted(found.items(), key=lambda item: (not _is_here(item[0][0]), -len(item[1]), item[0])))


def _is_here(task: str) -> bool:
    """Whether the task's data ships with the course, so that answers can be judged again."""
    return task in tasks.REGISTRY and tasks.REGISTRY[task].hub is None


def board(
    task: str, labels: int | None = None, backbone: str = "pocket-bert", folder: str | Path | None = None
) -> Board:
    """Everything recorded on this task with this number of labels.

    Args:
        labels: by default the number with which most methods are recorded, of equals the larger.

    Raises:
        ValueError: nothing is recorded there; the message lists what is.
    """
    found = [r for r in shelf(folder, task=task) if r.backbone in (backbone, "none")]
    by_method = [r for r in found if r.method not in BASELINES]
    counts: dict[int, set[str]] = {}
    for record in by_method:
        counts.setdefault(record.labels, set()).add(record.method)
    if labels is None and counts:
        labels = max(counts, key=lambda n: (len(counts[n]), n))
    if labels not in counts:
        told = ", ".join(f"{name} with {n}" for name, n in tables(backbone, folder)) or "nothing"
        raise ValueError(f"no method is recorded on {task} with {labels} labels and {backbone}; there is {told}")
    known = _truth(task)
    truth = None if known is None else np.array(known[1], dtype=float)
    groups: dict[str, dict[int, Record]] = {}
    for record in found:
        if record.labels == labels:
            groups.setdefault(record.method, {}).setdefault(record.seed, record)
    made = {name: _result(list(runs.values()), truth, backbone) for name, runs in groups.items()}
    results = [one for name, one in made.items() if name not in BASELINES]
    results.sort(key=lambda one: (one.price("trained"), one.label))
    baselines = {name: made[name] for name in BASELINES if name in made}
    lines = {name: baselines[name].score for name in LINES if name in baselines}
    metric = results[0].runs[0].metric
    if known is not None:
        lines = {MAJORITY: evaluation.majority_score(metric, *known)} | lines
    elif metric in ("matthews", "spearman"):
        lines = {MAJORITY: 0.0} | lines  # a constant answer has no correlation with anything
    items = len(results[0].runs[0].predictions)
    shown = {one.label: one for one in results}
    return Board(task, metric, labels, backbone, items, shown, lines, baselines, truth)


def _result(runs: Sequence[Record], truth: NDArray | None, backbone: str) -> Result:
    runs = tuple(sorted(runs, key=lambda run: run.seed))
    baseline = runs[0].method in BASELINES
    method = None if baseline else method_of(runs[0])
    low, high = score_interval(runs, truth)
    right = right_answers(runs, truth) if truth is not None and runs[0].metric == "accuracy" else None
    if method is None:
        return Result(runs[0].method, runs[0].method, None, runs, None, low, high, right)
    name = FULL if runs[0].method == FULL else calculator.label(method)
    return Result(runs[0].method, name, method, runs, _cost(backbone, method, runs[0]), low, high, right)


def _cost(backbone: str, method: methods.Method, run: Record) -> calculator.Cost | None:
    try:
        shape = calculator.backbone(backbone)
        return calculator.cost(shape, method, batch=int(run.settings.get("batch_size", 16)), tokens=TOKENS)
    except (ValueError, ConnectionError):
        return None


# ---------------------------------------------------------------- which method for me?


@dataclass(frozen=True)
class Budget:
    """What one may spend; None for no limit.

    Attributes:
        trained: parameters. memory, storage: bytes, for training and for all tasks together.
        tasks: N, over one backbone. labels: of the task at hand.
        no_latency: whether inference must cost nothing more.
        batch, tokens: of a training step.
    """

    trained: int | None = None
    memory: int | None = None
    storage: int | None = None
    tasks: int = 1
    labels: int | None = None
    no_latency: bool = False
    batch: int = 32
    tokens: int = 128
    weight_bytes: int = accounting.FLOAT32


@dataclass(frozen=True)
class Advice:
    """What fits the budget, best evidence first, and what does not.

    Attributes:
        fitting: (cost, reasons) of each method that fits, in the order of the recommendation.
        refused: (cost, reason) of each that does not.
        evidence: the recorded comparison that the order rests on; None if there is none.
    """

    fitting: tuple[tuple[calculator.Cost, tuple[str, ...]], ...]
    refused: tuple[tuple[calculator.Cost, str], ...]
    evidence: Board | None

    def table(self, rows: int = 8, refused: int = 5) -> str:
        """As Markdown: the first rows of what fits, with reasons, and of what does not."""
        lines = ["| | method | trained | training | all tasks | why |", "|--:|---|--:|--:|--:|---|"]
        for place, (one, reasons) in enumerate(self.fitting[:rows], 1):
            sizes = accounting.megabytes(one.memory.total), accounting.megabytes(one.all_tasks_bytes)
            lines.append(
                f"| {place} | {one.label} | {one.trained:,} | {sizes[0]} | {sizes[1]} | {'; '.join(reasons)} |"
            )
        if len(self.fitting) > rows:
            lines.append(f"| | and {len(self.fitting) - rows} more | | | | |")
        for one, reason in self.refused[:refused]:
            lines.append(f"| ✗ | {one.label} | {one.trained:,} | | | {reason} |")
        if len(self.refused) > refused:
            lines.append(f"| ✗ | and {len(self.refused) - refused} more | | | | |")
        return "\n".join(lines)


def advise(
    backbone: str,
    budget: Budget,
    evidence: Board | None = None,
    candidates: Iterable[methods.Method] | None = None,
) -> Advice:
    """Which methods fit the budget, in the order that the records support, each with its reasons.

    What does not fit is refused by the calculator's figures. What fits is ordered by evidence: first the methods that
    the recorded comparison can't tell from its best one, cheapest first; then those that are shown to be behind, best
    first; then those that were never recorded, cheapest first.

    Args:
        backbone: whose costs are computed: a name of `calculator`.
        evidence: a recorded comparison; see `board` and `nearest`.
        candidates: by default every recorded method of the evidence, and every other registered one by its defaults.

    Raises:
        ValueError: an unknown backbone, or a budget that is not positive.
    """
    for name in ("trained", "memory", "storage", "labels"):
        value = getattr(budget, name)
        if value is not None and not value > 0:
            raise ValueError(f"a budget of {name} must be positive, or None; got {value!r}")
    shape = calculator.backbone(backbone)
    shown = {} if evidence is None else {calculator.label(one.method): one for one in evidence.results.values()}
    if candidates is None:
        recorded = [one.method for one in shown.values()]
        known = {type(one) for one in recorded}
        candidates = [*recorded, *(m for m in map(methods.make, methods.available()) if type(m) not in known)]
    tied = set() if evidence is None else {calculator.label(one.method) for one in evidence.tied()}
    fitting, refused = [], []
    for method in candidates:
        try:
            one = calculator.cost(
                shape, method, batch=budget.batch, tokens=budget.tokens, weight_bytes=budget.weight_bytes,
                tasks=budget.tasks,
            )  # fmt: skip
        except ValueError:
            continue  # the method does not exist on this architecture
        if reason := _too_much(one, budget, shape):
            refused.append((one, reason))
        else:
            fitting.append((one, _rank(one, shown, tied), _reasons(one, shown, tied, evidence, budget)))
    fitting.sort(key=lambda row: row[1])
    refused.sort(key=lambda row: row[0].trained)
    return Advice(tuple((one, reasons) for one, _, reasons in fitting), tuple(refused), evidence)


def nearest(labels: int, task: str | None = None, backbone: str = "pocket-bert", folder: Any = None) -> Board | None:
    """The recorded comparison nearest to this number of labels (as a ratio), among those with most methods."""
    every = {key: known for key, known in tables(backbone, folder).items() if task in (None, key[0])}
    every = {key: known for key, known in every.items() if _is_here(key[0])} or every
    if not every:
        return None
    most = max(len(known) for known in every.values())
    rich = [key for key, known in every.items() if len(known) >= max(2, most / 2)] or list(every)
    chosen = min(rich, key=lambda key: (abs(math.log(key[1] / labels)), -len(every[key]), key))
    return board(chosen[0], chosen[1], backbone, folder)


def _too_much(one: calculator.Cost, budget: Budget, shape: calculator.Shape) -> str:
    """Why this does not fit; empty if it does."""
    over = []
    if budget.trained is not None and one.trained > budget.trained:
        over.append(f"trains {one.trained:,} parameters, the budget is {budget.trained:,}")
    if budget.memory is not None and one.memory.total > budget.memory:
        over.append(f"training takes {accounting.megabytes(one.memory.total)} of {accounting.megabytes(budget.memory)}")
    if budget.storage is not None and one.all_tasks_bytes > budget.storage:
        over.append(
            f"{budget.tasks} tasks take {accounting.megabytes(one.all_tasks_bytes)} of "
            f"{accounting.megabytes(budget.storage)}"
        )
    if budget.no_latency and not one.mergeable:
        over.append("it can't be merged, so inference costs more")
    if one.positions + budget.tokens > shape.positions:
        over.append(f"its {one.positions} positions and {budget.tokens} tokens exceed {shape.positions}")
    return "; ".join(over)


def _rank(one: calculator.Cost, shown: Mapping[str, Result], tied: set[str]) -> tuple:
    if one.label in tied:
        return 0, one.trained
    if one.label in shown:
        return 1, -shown[one.label].score
    return 2, one.trained


def _reasons(
    one: calculator.Cost, shown: Mapping[str, Result], tied: set[str], evidence: Board | None, budget: Budget
) -> tuple[str, ...]:
    """What speaks for it, and what is not known."""
    reasons = []
    if evidence is not None and one.label in shown:
        result, best = shown[one.label], evidence.best
        told = f"{evidence.metric} {result.score:.3f} on {evidence.task} with {evidence.labels:,} labels"
        if result is best:
            told += ", the highest mean recorded"
        elif one.label in tied:
            told += f", not told apart from the highest ({best.name}, {best.score:.3f})"
        else:
            told += f", shown to be behind {best.name} ({best.score:.3f})"
        reasons.append(told)
        beaten = [name for name, value in evidence.lines.items() if name != MAJORITY and value >= result.score]
        if beaten:
            reasons.append(f"no higher than the {' and the '.join(beaten)}")
    else:
        reasons.append("not recorded here: try it")
    if one.mergeable and budget.no_latency:
        reasons.append("merges into the weights")
    return tuple(reasons)
