"""What the pocket models reach when they are fine-tuned, from the shipped records: the tables on their page."""

from __future__ import annotations

from collections.abc import Sequence

from peft_helpers import real_results, records, statistics, tasks
from peft_helpers.real_results import METRICS, STARTS, points
from peft_helpers.records import Record

# Tokens seen in pretraining, in millions, as the model cards tell them: the first pocket-bert in 14,000 steps about 19,
# the second in 5,500 steps 7 more; the first pocket-gpt2 in 6,000 steps 18.5, with repeats in 4,500 steps 13.8 more.
# The early models are not shipped, their records are (folder "pretraining").
SEEN = {"early-pocket-bert": 19.0, "pocket-bert": 26.0, "early-pocket-gpt2": 18.5, "pocket-gpt2": 32.3}
BARS = {  # the bar in points, and the records that are held against it
    "SST-2, accuracy, 2,000 labels": (80, "sst2", "full", 2000, "pocket-bert"),
    "TREC, accuracy, all labels": (93, "trec", "full", 4907, "pocket-bert"),
    "trails, names copied by a prefix": (95, "trails", "PrefixTuning(length=20)", 1500, "pocket-gpt2"),
    "E2E, names copied by a prefix": (95, "e2e", "PrefixTuning(length=20)", 1500, "pocket-gpt2"),
}
SCORES = {"bleu": "BLEU", "rouge_l": "ROUGE-L", "slot_error_rate": "slot errors", "names_copied": "names copied"}


def average(found: Sequence[Record]) -> float:
    return statistics.mean_and_spread(record.score for record in found).mean


def of(
    task: str,
    method: str,
    labels: int,
    backbones: Sequence[str] = ("pocket-bert", "none"),
    shelf: str | None = None,
) -> list[Record]:
    """Records of one task, method and number of labels; `shelf` is their folder if it is not the task's own."""
    folder = records.SHIPPED / (shelf or task)
    if not folder.is_dir():
        return []
    found = records.load(folder, task=task, method=method, labels=labels, split="test")
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
        cells = [points(runs) for runs in found.values()]
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
            share = average(found) / average(whole) if whole else 0
            cells = [points(found, lambda record, name=name: record.settings["scores"][name]) for name in SCORES]
            lines.append(
                f"| {task} | {labels:,} | {backbone} | {method} | {found[0].parameters['trained']:,} | "
                + " | ".join(cells)
                + (f" | {share:.0%} |" if whole else " | |")
            )
    return "\n".join(lines)


def held_against_bar(record: Record) -> float:
    """Names copied where something was written, otherwise the task's metric."""
    return record.settings.get("scores", {}).get("names_copied", record.score)


def growth() -> str:
    """What more pretraining bought: each bar at 0 tokens, with the earlier model, and with the shipped one."""
    lines = ["| bar | model | million tokens seen | reached | short by |", "|---" * 5 + "|"]
    for told, (bar, task, method, labels, model) in BARS.items():
        early = f"early-{model}"
        rows = [
            (f"{model}, random weights", 0.0, of(task, "scratch", labels, [model])),
            (f"{model}, earlier", SEEN[early], of(task, method, labels, [early], "pretraining")),
            (f"{model}, shipped", SEEN[model], of(task, method, labels, [model])),
        ]
        for name, tokens, found in rows:
            if found:
                short = bar - 100 * statistics.mean_and_spread(map(held_against_bar, found)).mean
                cell = points(found, held_against_bar)
                lines.append(f"| {told}: {bar} | {name} | {tokens:g} | {cell} | {max(short, 0):.1f} |")
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

Bars that we set, and what more pretraining did for them. Where one is short, the next step is more tokens on a GPU:
these models were made on one processor core.

{growth()}
"""
