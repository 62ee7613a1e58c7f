"""What the pocket models reach when they are fine-tuned, from the shipped records: the tables on their page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peft_helpers import real_results, records, statistics, tasks
from peft_helpers.records import Record

STARTS = real_results.STARTS
METRICS = real_results.METRICS
SCORES = {"bleu": "BLEU", "rouge_l": "ROUGE-L", "slot_error_rate": "slot errors", "names_copied": "names copied"}


def mean(found: Sequence[Record], value: Callable[[Record], float]) -> str:
    """Mean ± standard deviation over seeds, in hundredths."""
    middle, spread, _ = statistics.mean_and_spread(map(value, found))
    return f"{100 * middle:.1f} ± {100 * spread:.1f}"


def average(found: Sequence[Record]) -> float:
    return statistics.mean_and_spread(record.score for record in found).mean


def of(task: str, method: str, labels: int, backbones: Sequence[str] = ("pocket-bert", "none")) -> list[Record]:
    """Records of one task, method and number of labels."""
    folder = records.SHIPPED / task
    found = records.load(folder, method=method, labels=labels, split="test") if folder.is_dir() else []
    return [record for record in found if record.backbone in backbones]


def pocket_tasks(labels: int = 200) -> str:
    """pocket-bert on the pocket tasks: pretrained, from random weights, and without a network."""
    lines = [
        "| task | metric | " + " | ".join(STARTS.values()) + " | pretrained − random |",
        "|---" * (len(STARTS) + 3) + "|",
    ]
    for task, source in tasks.REGISTRY.items():
        found = {method: of(task, method, labels) for method in STARTS}
        if source.hub or source.kind == "generation" or not (found["full"] and found["scratch"]):
            continue
        cells = [mean(runs, lambda record: record.score) if runs else "" for runs in found.values()]
        full, scratch = average(found["full"]), average(found["scratch"])
        lines.append(
            f"| {task} | {METRICS[source.metric]} | " + " | ".join(cells) + f" | {100 * (full - scratch):+.1f} |"
        )
    return "\n".join(lines)


def real_tasks() -> str:
    """Full fine-tuning of pocket-bert on real data, beside its baselines."""
    lines = real_results.scores_table().splitlines()
    return "\n".join(lines[:2] + [line for line in lines[2:] if "| pocket-bert |" in line])


def writing() -> str:
    """The two models that write, fully fine-tuned and frozen with a prefix."""
    lines = [
        "| task | examples | model | trained | parameters | " + " | ".join(SCORES.values()) + " | BLEU of full's |",
        "|---" * (len(SCORES) + 6) + "|",
    ]
    for task in ("trails", "e2e"):
        folder = records.SHIPPED / task
        shelf = records.load(folder, split="test") if folder.is_dir() else []
        groups: dict[tuple[str, int, str], list[Record]] = {}
        for record in sorted(shelf, key=lambda r: (r.backbone, r.labels, r.method != "full", r.method)):
            groups.setdefault((record.backbone, record.labels, record.method), []).append(record)
        for (backbone, labels, method), found in groups.items():
            whole = groups.get((backbone, labels, "full"))
            share = (
                sum(r.score for r in found) / len(found) / (sum(r.score for r in whole) / len(whole)) if whole else 0
            )
            cells = [mean(found, lambda record, name=name: record.settings["scores"][name]) for name in SCORES]
            lines.append(
                f"| {task} | {labels:,} | {backbone} | {method} | {found[0].parameters['trained']:,} | "
                + " | ".join(cells)
                + (f" | {share:.0%} |" if whole else " | |")
            )
    return "\n".join(lines)


def section() -> str:
    """The part of the models' page that says what they reach."""
    return f"""## What they reach

Full fine-tuning of pocket-bert with 200 labels, test split, in points of the task's metric; mean ± standard deviation
over three seeds, rates tuned on a fifth of the labels:

{pocket_tasks()}

The same on real data (SST-2's sentences, 6,228 for training; its dev set is our test set):

{real_tasks()}

The two models that write, greedily, on meaning representations (`trails` is the course's own, `e2e` the real E2E): all
weights trained, or frozen with a prefix of 20:

{writing()}
"""
