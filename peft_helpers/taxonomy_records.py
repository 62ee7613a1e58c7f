"""The recorded comparison that lesson 11 reads: every registered method on one task, and a paper's order beside ours.

Each method is recorded by a command such as

    python -m peft_helpers.experiments --task sentiment --backbone pocket-bert --method LoRA --labels 600 \\
        --rates 3e-4 1e-3 3e-3 --epochs 6 --batch 16 --folds 3 --widen 1 --precision bf16

Whatever records there are is what the lesson shows; a method that is not recorded is missing, and said to be.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats

from peft_helpers import accounting, adapter_records, methods, records
from peft_helpers.adapter_records import FULL, LINES, Entry, versus

# Mao et al. 2022 (arXiv:2110.07577): GLUE means of BERT-base, on dev with all labels, and on test with few. Parts of
# the model that are trained: prefix of 10, LoRA r = 8, Pfeiffer adapter m = 48; APL, all three behind gates.
UNIPELT = {
    "all, dev": {FULL: 82.67, "PrefixTuning": 82.07, "LoRA": 82.20, "Pfeiffer": 83.02, "UniPELT": 83.50},
    "100": {FULL: 60.02, "BitFit": 48.64, "PrefixTuning": 47.99, "LoRA": 49.26, "Pfeiffer": 58.24, "UniPELT": 62.59},
    "500": {FULL: 68.93, "BitFit": 60.30, "PrefixTuning": 67.32, "LoRA": 65.86, "Pfeiffer": 68.02, "UniPELT": 69.98},
    "1000": {FULL: 71.93, "BitFit": 66.51, "PrefixTuning": 71.81, "LoRA": 72.28, "Pfeiffer": 70.95, "UniPELT": 73.31},
}
COLUMNS = (
    *("method", "trained", "changed", "kB file", "MB training", "GFLOP a step", "s a run", "rate", "score"),
    "against full, 95 % interval",
)
FEWEST = 3  # methods in common; with two, every order agrees or disagrees completely


def recorded(
    task: str, backbone: str, labels: int | None = None, folder: str | Path | None = None
) -> dict[str, list[Entry]]:
    """Family -> what is recorded of its methods, on this task's test split with one number of labels.

    Families in the order of `methods.FAMILIES`, then "lines": the linear probe and the bag of words. Full fine-tuning
    is among the baselines. An entry's `family` is the method's name.

    Args:
        labels: how many; by default the number with which most methods are recorded.
        folder: of the records; by default those that ship with the course, and yours.
    """
    shelf = [r for r in records.load(folder, task=task, split="test") if r.backbone in (backbone, "none")]
    shelf = [r for r in shelf if r.method in LINES or _family(r) is not None]
    shelf = adapter_records.own([r for r in shelf if r.backbone != "none"]) + [r for r in shelf if r.backbone == "none"]
    if labels is None:
        counts: dict[int, set[str]] = {}
        for record in shelf:
            counts.setdefault(record.labels, set()).add(record.method)
        labels = max(counts, key=lambda n: (len(counts[n] - {FULL, *LINES}), n), default=None)
    groups: dict[str, list[records.Record]] = {}
    for record in shelf:
        if record.labels == labels:
            groups.setdefault(record.method, []).append(record)
    found: dict[str, list[Entry]] = {family: [] for family in (*methods.FAMILIES, "lines")}
    for label, runs in groups.items():
        name, settings = adapter_records.parse(runs[0])
        one = Entry(label, name, settings, tuple(sorted(runs, key=lambda run: run.seed)))
        found[_family(runs[0]) or "lines"].append(one)
    ordered = {family: sorted(entries, key=lambda one: one.trained) for family, entries in found.items()}
    return {family: entries for family, entries in ordered.items() if entries}


def _family(record: records.Record) -> str | None:
    """The family of a record's method; None for what is no method of the registry."""
    name, _ = adapter_records.parse(record)
    if name == FULL:
        return "baseline"
    return methods.REGISTRY[name].card.family if name in methods.REGISTRY else None


def missing(shelf: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Registered methods of which nothing is recorded; full fine-tuning is recorded as "full"."""
    known = {one.family for entries in shelf.values() for one in entries}
    known |= {"FullFineTuning"} if FULL in known else set()
    return [name for name in methods.available() if name not in known]


def chosen(shelf: Mapping[str, Sequence[Entry]]) -> dict[str, Entry]:
    """One entry a method: of several settings the one that is best on held-out training data."""
    found: dict[str, Entry] = {}
    for entries in shelf.values():
        for one in entries:
            if one.family not in found or one.held_out > found[one.family].held_out:
                found[one.family] = one
    return found


class Agreement(NamedTuple):
    """How far two orders of the same methods agree.

    Attributes:
        rho: Spearman's rank correlation, 1 for the same order, -1 for the reverse.
        methods: what is in both, best of ours first.
        chance: the share of all orders that agree at least as well.
    """

    rho: float
    methods: tuple[str, ...]
    chance: float


def agreement(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Agreement | None:
    """Compare the scores of the methods that both have; None with fewer than `FEWEST`.

    Raises:
        ValueError: more than 8 methods in common: the orders are all tried.
    """
    common = sorted(ours.keys() & theirs.keys(), key=lambda name: -ours[name])
    if len(common) < FEWEST:
        return None
    if len(common) > 8:
        raise ValueError(f"all orders of the methods are tried, at most 8 of them; got {len(common)}")
    a, b = [ours[name] for name in common], [theirs[name] for name in common]
    if len(set(a)) == 1 or len(set(b)) == 1:  # no order at all
        return None
    rho = float(scipy.stats.spearmanr(a, b).statistic)
    tries = [float(scipy.stats.spearmanr(a, order).statistic) for order in itertools.permutations(b)]
    return Agreement(rho, tuple(common), sum(one >= rho - 1e-9 for one in tries) / len(tries))


def comparison(shelf: Mapping[str, Sequence[Entry]], truth: Sequence[float]) -> str:
    """A Markdown table, family by family: numbers, file, memory, operations, time, rate, score, distance.

    trained: with the head. changed: of the pretrained numbers, merged where that is possible, so without the head. The
    file is what a task stores, in kB (1000 bytes). MB training: weights, gradients, Adam's state, and the activations
    of one batch; GFLOP a step: forward and backward of the same batch, see `experiments.costs`. A run's time is the
    median, on the device of the records. The last column is the difference from full fine-tuning in points, and its
    paired 95 % interval: the texts are drawn again, the seeds are averaged; bold where the interval leaves 0 out.

    Where a record does not say what it costs, the cells are empty.

    Args:
        truth: the labels of the test split.
    """
    full = next((one for one in shelf.get("baseline", ()) if one.family == FULL), None)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for family, entries in shelf.items():
        lines.append(f"| **{family}** |" + " |" * (len(COLUMNS) - 1))
        lines += ["| " + " | ".join(_cells(one, full, truth)) + " |" for one in entries]
    return "\n".join(lines)


def _cells(one: Entry, full: Entry | None, truth: Sequence[float]) -> tuple[str, ...]:
    run = one.runs[0]
    rate, numbers, costs, seconds = run.settings.get("learning_rate"), ("",) * 2, ("",) * 3, ""
    if one.family not in LINES:
        numbers = tuple(f"{run.parameters[key]:,}" for key in ("trained", "changed"))
        seconds = f"{np.median([record.seconds for record in one.runs]):.0f}"
    if (found := run.settings.get("costs")) is not None:
        sizes = run.parameters["total"], run.parameters["trained"], found["activation_bytes"]
        memory = accounting.training_memory(*sizes).total
        costs = f"{found['file_bytes'] / 1e3:,.0f}", f"{memory / 1e6:.1f}", f"{found['step_flops'] / 1e9:.2f}"
    told = "" if rate is None else f"{rate:g}", one.told, versus(one, full, truth)
    return one.label, *numbers, *costs, seconds, *told


def across(shelves: Mapping[str, Mapping[str, Sequence[Entry]]], truths: Mapping[str, Sequence[float] | None]) -> str:
    """`adapter_records.across` of several tasks, the rows family by family; the baselines' lines come last.

    Args:
        shelves: what the column is called -> what is recorded there.
        truths: of the same columns: the labels of their test splits; None where they are not known here.

    Raises:
        ValueError: a column has no truth.
    """
    order = [*methods.FAMILIES, "lines"]
    columns = {task: list(itertools.chain.from_iterable(shelf.values())) for task, shelf in shelves.items()}
    return adapter_records.across(columns, truths, key=lambda one: order.index(_family(one.runs[0]) or "lines"))
