"""The recorded runs that lesson 08 reads: methods compared on one task, and the runs of `adapter_runs`.

The methods are recorded one by one, learning rate tuned on held-out training data, for example

    python -m peft_helpers.experiments --task sentiment --backbone pocket-bert --method Houlsby --set bottleneck=16 \\
        --labels 600 --rates 3e-4 1e-3 3e-3 --epochs 6 --batch 16 --folds 3 --widen 1

A record names its method with its settings, "Houlsby(bottleneck=16)". Whatever records there are of the methods in
`SHORT`, of whatever sizes, is what the lesson shows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peft_helpers import backbones, experiments, real_results, records, statistics
from peft_helpers.records import Record

if TYPE_CHECKING:
    from peft_helpers.methods import Method
    from peft_helpers.training import Evaluation, Run

FULL = "full"  # what the experiments call full fine-tuning
LINES = ("linear probe", "bag of words")  # baselines: no network is trained
SHORT = {"HeadOnly": "head only", "LayerNormTuning": "layer norms", "BitFit": "BitFit", "LoRA": "LoRA",
         "Pfeiffer": "Pfeiffer", "ParallelAdapter": "parallel", "Houlsby": "Houlsby", "TopLayers": "top layers",
         FULL: FULL}  # fmt: skip
SHOWN = ("bottleneck", "layers", "rank")  # settings that a figure's label names


@dataclass(frozen=True)
class Entry:
    """One method with its settings, on one task with one number of labels.

    Attributes:
        label: the record's own name for it, "Houlsby(bottleneck=16)".
        family: the method's short name, the same for all settings: "Houlsby", "full", "top layers".
        settings: of the method.
        runs: one record a seed.
    """

    label: str
    family: str
    settings: dict[str, Any]
    runs: tuple[Record, ...]

    @property
    def score(self) -> float:
        """The mean over the seeds."""
        return float(np.mean([run.score for run in self.runs]))

    @property
    def trained(self) -> int:
        """Trained parameters, the head included."""
        return self.runs[0].parameters["trained"]

    @property
    def size(self) -> int | None:
        """The setting that a curve runs over: bottleneck, number of layers, rank; None where there is none."""
        return next((self.settings[name] for name in SHOWN if isinstance(self.settings.get(name), int)), None)

    @property
    def name(self) -> str:
        """For people: "Houlsby 16", "layer norms"."""
        return self.family if self.size is None else f"{self.family} {self.size}"

    @property
    def held_out(self) -> float:
        """The score of the best learning rate on held-out training data: what a size may be chosen by."""
        tried = self.runs[0].settings.get("tuned_rates") or [{"score": -math.inf}]
        return max(row["score"] for row in tried)

    @property
    def told(self) -> str:
        """The score in hundredths, mean ± standard deviation over seeds: "88.9 ± 0.5"; one seed has no spread."""
        return real_results.points(self.runs)

    def right(self, labels: ArrayLike) -> NDArray:
        """(seeds, N): whether each prediction is the true class."""
        return np.array([np.equal(run.predictions, labels) for run in self.runs], dtype=float)


def parse(record: Record) -> tuple[str, dict[str, Any]]:
    """(name, settings) of a record's method; the settings as the record has them, or as far as the label tells."""
    found = re.fullmatch(r"([\w ]+?)(?:\((.*)\))?", record.method)
    if found is None:
        return record.method, {}
    name, inside = found[1], found[2] or ""
    settings = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)(?![\d.e])", inside)}
    return name, settings | dict(record.settings.get("method_settings") or {})


def recorded(task: str, backbone: str, labels: int | None = None, folder: str | Path | None = None) -> dict[str, Entry]:
    """Every method of `SHORT`, and the baselines, recorded on the test split of this task with one number of labels.

    Args:
        labels: how many; by default the number with which most methods are recorded.
        folder: of the records; by default those that ship with the course, and yours.

    Records of the weights that are installed; where there are none at all, of others (`of_these_weights` tells).
    """
    shelf = [r for r in records.load(folder, task=task, split="test") if r.backbone in (backbone, "none")]
    shelf = [r for r in shelf if r.method in LINES or parse(r)[0] in SHORT]
    shelf = own([r for r in shelf if r.backbone != "none"]) + [r for r in shelf if r.backbone == "none"]
    if labels is None:
        counts: dict[int, set[str]] = {}
        for record in shelf:
            counts.setdefault(record.labels, set()).add(record.method)
        labels = max(counts, key=lambda n: (len(counts[n] - {FULL, *LINES}), n), default=None)
    groups: dict[str, list[Record]] = {}
    for record in shelf:
        if record.labels == labels:
            groups.setdefault(record.method, []).append(record)
    found = {}
    for label, runs in groups.items():
        name, settings = parse(runs[0])
        ordered = tuple(sorted(runs, key=lambda run: run.seed))
        found[label] = Entry(label, SHORT.get(name, name), settings, ordered)
    return dict(sorted(found.items(), key=lambda item: (item[1].trained, item[0])))


def beside(run: Run, result: Evaluation, method: Method, folder: str | Path | None = None) -> dict[str, Entry]:
    """What is recorded with as many labels as this run had, and the run itself: for where no adapters are recorded."""
    record = experiments.to_record("today", run, result, repr(method), {"method_settings": method.settings()})
    name, settings = type(method).__name__, method.settings()
    shelf = recorded(run.task, run.backbone, run.labels, folder)
    return shelf | {record.method: Entry(record.method, SHORT.get(name, name), settings, (record,))}


def ahead(a: Entry, b: Entry, labels: Sequence[float]) -> statistics.Interval:
    """score(a) − score(b) with its paired interval; both judged on the same items.

    Raises:
        ValueError: the two are judged by different metrics.
    """
    metric = a.runs[0].metric
    if metric != b.runs[0].metric:
        raise ValueError(f"{a.label} is judged by {metric}, {b.label} by {b.runs[0].metric}: no difference to speak of")
    if metric == "accuracy":
        return statistics.paired_bootstrap(a.right(labels), b.right(labels))
    predictions = ([run.predictions for run in one.runs] for one in (a, b))
    return statistics.paired_bootstrap(*predictions, labels=labels, metric=metric)


def versus(one: Entry, full: Entry | None, truth: Sequence[float] | None) -> str:
    """How far a method is from full fine-tuning, in hundredths: "-2.7 (-4.4 … -1.1)", bold where 0 is outside.

    "" for full fine-tuning itself, for the baselines' lines, and where there are no true labels.
    """
    if full is None or one is full or one.family in LINES or truth is None:
        return ""
    return in_points(ahead(one, full, truth))


def in_points(gap: statistics.Interval) -> str:
    """A difference with its interval, in hundredths, as in `versus`."""
    told = f"{100 * gap.difference:+.1f} ({100 * gap.low:+.1f} … {100 * gap.high:+.1f})"
    return f"**{told}**" if gap.excludes_zero else told


def across(
    columns: Mapping[str, Sequence[Entry]],
    truths: Mapping[str, Sequence[float] | None],
    key: Callable[[Entry], Any] = lambda one: (one.family not in LINES, one.trained),
) -> str:
    """A Markdown table of several tasks: a row a method and setting, a column a task.

    A cell has the score, mean ± standard deviation over seeds, and its difference from full fine-tuning with the paired
    95 % interval (`versus`); it is empty where there is no record. The first row is what the commonest class of test
    scores, where the metric is accuracy.

    Args:
        columns: what a column is called -> what is recorded there.
        truths: of the same columns: the labels of their test splits; None where they are not known here.
        key: what the rows are sorted by, judged by the first column that has the row.

    Raises:
        ValueError: a column has no truth.
    """
    if lacking := [name for name in columns if name not in truths]:
        raise ValueError(f"truths must have every column, if only None; there is none for {lacking[0]}")
    rows: dict[str, dict[str, str]] = {}
    first: dict[str, Entry] = {}
    for column, entries in columns.items():
        full = next((one for one in entries if one.family == FULL), None)
        for one in entries:
            first.setdefault(one.label, one)
            told = filter(None, (one.told, versus(one, full, truths[column])))
            rows.setdefault(one.label, {})[column] = "; ".join(told)
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    guesses = {column: _commonest(entries, truths[column]) for column, entries in columns.items()}
    if any(guesses.values()):
        lines.append("| commonest class | " + " | ".join(guesses.values()) + " |")
    for label in sorted(rows, key=lambda label: key(first[label])):
        lines.append(f"| {label} | " + " | ".join(rows[label].get(column, "") for column in columns) + " |")
    return "\n".join(lines)


def _commonest(entries: Sequence[Entry], truth: Sequence[float] | None) -> str:
    if truth is None or not entries or entries[0].runs[0].metric != "accuracy":
        return ""
    return f"{100 * Counter(truth).most_common(1)[0][1] / len(truth):.1f}"


def chosen_sizes(
    columns: Mapping[str, Sequence[Entry]], truths: Mapping[str, Sequence[float] | None], family: str = "Houlsby"
) -> str:
    """A Markdown table: a row a task with the size of one method that held-out training labels choose, and how it did.

    The share trained is of the whole model; the distance is from full fine-tuning (`versus`), in points, and the last
    row has its mean. Tasks without this method, without full fine-tuning or without true labels are left out.

    Args: those of `across`, and the method's short name, as in `SHORT`.
    """
    lines = ["| task | size by held-out labels | trained | minus full, 95 % interval |", "|---" * 4 + "|"]
    gaps = []
    for column, entries in columns.items():
        sizes, truth = [one for one in entries if one.family == family], truths[column]
        full = next((one for one in entries if one.family == FULL), None)
        if sizes and full is not None and truth is not None:
            best = max(sizes, key=lambda one: one.held_out)
            share = best.trained / full.runs[0].parameters["total"]
            gap = ahead(best, full, truth)
            lines.append(f"| {column} | {best.size} | {share:.1%} | {in_points(gap)} |")
            gaps.append(gap.difference)
    if gaps:
        lines.append(f"| mean | | | {100 * np.mean(gaps):+.1f} |")
    return "\n".join(lines)


def own(shelf: Iterable[Record]) -> list[Record]:
    """Those made with the weights that are installed here; if there are none, all of them."""
    shelf = list(shelf)
    hashes = {name: backbones.weights_hash(name) for name in {record.backbone for record in shelf}}
    return [record for record in shelf if record.backbone_sha256 == hashes[record.backbone]] or shelf


def of_these_weights(record: Record) -> bool:
    """Whether a record was made with the backbone's weights that are installed here."""
    return record.backbone_sha256 == backbones.weights_hash(record.backbone)
