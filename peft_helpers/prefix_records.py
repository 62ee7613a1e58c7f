"""The recorded runs that lesson 10 compares, and the papers' figures beside them.

Methods on a generation task are recorded one by one, learning rate tuned on held-out training data, for example

    python -m peft_helpers.experiments --task trails --backbone pocket-bart --method PrefixTuning --set length=20 \\
        --labels 1500 --rates 1e-3 3e-3 --epochs 4 --batch 16

Whatever records there are is what the lesson shows. The sweeps of `prefix_runs` are another kind of record.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peft_helpers import real_results, records
from peft_helpers.adapter_records import own, parse
from peft_helpers.records import Record

FULL = "full"
FAMILIES = {FULL: "full", "TopLayers": "top layers", "Houlsby": "adapters", "Pfeiffer": "adapters (Pfeiffer)",
            "LoRA": "LoRA", "PrefixTuning": "prefix", "PromptTuning": "embedding only"}  # fmt: skip
SHOWN = ("layers", "bottleneck", "rank", "length")  # settings that a name tells

# BLEU on E2E with GPT-2 medium: Li and Liang 2021, arXiv:2101.00190; LoRA: Hu et al. 2021, arXiv:2106.09685, which has
# the same figures for full, top layers, prefix and adapters. Family -> {what is trained: BLEU}.
PAPER_E2E = {
    FULL: {"100 %": 68.2}, "top layers": {"two layers": 68.1}, "adapters": {"3 %": 68.9, "0.1 %": 66.3},
    "LoRA": {"0.1 %": 70.4}, "prefix": {"0.1 %": 69.7}, "embedding only": {"20 vectors": 61.9},
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One method with its settings on one task and backbone.

    Attributes:
        label: the record's own name, "PrefixTuning(length=20)".
        family: "prefix"; settings: the method's.
        runs: one record a seed.
    """

    label: str
    family: str
    settings: dict[str, Any]
    runs: tuple[Record, ...]

    @property
    def name(self) -> str:
        """For people: "prefix 20", "full"."""
        size = next((self.settings[key] for key in SHOWN if isinstance(self.settings.get(key), int)), None)
        return self.family if size is None else f"{self.family} {size}"

    @property
    def share(self) -> float:
        """Trained parameters, as a share of all."""
        counts = self.runs[0].parameters
        return counts["trained"] / counts["total"]

    @property
    def stored(self) -> int:
        """Numbers in the task's checkpoint."""
        return self.runs[0].parameters["stored"]

    def scores(self, name: str) -> list[float]:
        """One a seed: "bleu", "rouge_l", "chrf", "slot_error_rate" or "names_copied"."""
        return [run.settings["scores"][name] for run in self.runs]

    def mean(self, name: str) -> float:
        return float(np.mean(self.scores(name)))

    def told(self, name: str) -> str:
        """A score in hundredths, mean ± standard deviation over seeds: "33.9 ± 9.6"; one seed has no spread."""
        return real_results.points(self.runs, lambda run: run.settings["scores"][name])


def compared(task: str, backbone: str, labels: int | None = None, folder: str | Path | None = None) -> dict[str, Entry]:
    """Every recorded method by its label, full fine-tuning first, then by what is stored.

    Args:
        labels: training examples; by default the number with which most methods are recorded, the larger of equals.
        folder: of the records; by default those that ship with the course, and yours.

    Records of the weights that are installed; where there are none at all, of others.
    """
    shelf = own(_shelf(task, backbone, folder))
    if labels is None:
        methods: dict[int, set[str]] = {}
        for record in shelf:
            methods.setdefault(record.labels, set()).add(record.method)
        labels = max(methods, key=lambda n: (len(methods[n]), n), default=None)
    groups: dict[str, list[Record]] = {}
    for record in shelf:
        if record.labels == labels:
            groups.setdefault(record.method, []).append(record)
    entries = [
        Entry(label, FAMILIES[parse(runs[0])[0]], parse(runs[0])[1], tuple(sorted(runs, key=lambda run: run.seed)))
        for label, runs in groups.items()
    ]
    entries.sort(key=lambda entry: (entry.family != FULL, -entry.stored, entry.label))
    return {entry.label: entry for entry in entries}


def best(shelf: dict[str, Entry], family: str) -> Entry | None:
    """The family's size whose best rate did best on held-out training data; None if there is none."""
    own_kind = [entry for entry in shelf.values() if entry.family == family]

    def held_out(entry: Entry) -> float:
        return max((row["score"] for row in entry.runs[0].settings.get("tuned_rates", [])), default=-1.0)

    return max(own_kind, key=held_out, default=None)


def sizes(task: str, backbone: str, folder: str | Path | None = None) -> dict[str, dict[int, list[float]]]:
    """BLEU by number of examples for every method that is recorded with more than one: name -> {examples: scores}."""
    found: dict[str, dict[int, list[float]]] = {}
    for labels in sorted({record.labels for record in _shelf(task, backbone, folder)}):
        for entry in compared(task, backbone, labels, folder).values():
            found.setdefault(entry.name, {})[labels] = entry.scores("bleu")
    return {name: points for name, points in found.items() if len(points) > 1}


def _shelf(task: str, backbone: str, folder: str | Path | None) -> list[Record]:
    found = records.load(folder, task=task, backbone=backbone, split="test")
    return [r for r in found if "scores" in r.settings and "experiment" not in r.settings and parse(r)[0] in FAMILIES]


# ---------------------------------------------------------------- tables


def table(shelf: dict[str, Entry]) -> str:
    """Markdown: trained, stored, BLEU, ROUGE-L, slot errors, names copied, in percent; mean ± spread over the seeds."""
    lines = [
        "| | trained | stored | BLEU | ROUGE-L | slot errors | names copied | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in shelf.values():
        names = ("bleu", "rouge_l", "slot_error_rate", "names_copied")
        cells = " | ".join(entry.told(name) for name in names)
        lines.append(f"| {entry.name} | {entry.share:.1%} | {entry.stored:,} | {cells} | {len(entry.runs)} |")
    return "\n".join(lines)


def beside_paper(shelves: dict[str, dict[str, Entry]]) -> str:
    """Markdown: the papers' BLEU on E2E, and what is recorded here, each with its percentage of full fine-tuning.

    Args:
        shelves: a column's name -> what `compared` found; empty ones are left out.
    """
    shelves = {name: shelf for name, shelf in shelves.items() if FULL in shelf}
    lines = [
        "| BLEU (of full) | papers: GPT-2 medium, E2E | " + " | ".join(shelves) + " |",
        "|---|---|" + "---|" * len(shelves),
    ]
    (paper_full,) = PAPER_E2E[FULL].values()
    for family, scores in PAPER_E2E.items():
        cells = ["; ".join(f"{bleu} ({bleu / paper_full:.0%}), {trained}" for trained, bleu in scores.items())]
        for shelf in shelves.values():
            entry = best(shelf, family)
            if entry is None:
                cells.append("not recorded")
                continue
            bleu, whole = entry.mean("bleu"), shelf[FULL].mean("bleu")
            cells.append(f"{100 * bleu:.1f} ({bleu / whole:.0%}), {entry.name}")
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
