"""What the course's methods reach on real data, from records: tables for the lessons.

SST-2 (accuracy), CoLA (Matthews correlation), STS-B (Spearman correlation) and TREC (accuracy). The runs were recorded
by `python -m peft_helpers.experiments`; their data is not shipped, so the lessons show results, not runs. For paired
intervals the true classes of a test split stand beside its records, as numbers, without the texts:

    python -m peft_helpers.real_results      # writes them, for the tasks that can be loaded here
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from peft_helpers import records, statistics, storage, tasks
from peft_helpers.records import Record

TASKS = {"sst2": "SST-2", "cola": "CoLA", "stsb": "STS-B", "trec": "TREC"}
TRUTH = "test.labels"  # JSON, but no record
METRICS = {"accuracy": "accuracy", "matthews": "Matthews", "spearman": "Spearman", "f1": "F1"}
STARTS = {
    "full": "pretrained",
    "scratch": "random weights",
    "linear probe": "linear probe",
    "bag of words": "bag of words",
}


def runs(method: str | None = None) -> list[Record]:
    """The shipped records of the real tasks, of one method or of all."""
    folders = [records.SHIPPED / task for task in TASKS if (records.SHIPPED / task).is_dir()]
    found = [record for folder in folders for record in records.load(folder)]
    return [record for record in found if method in (None, record.method)]


def truth(task: str) -> list[float] | None:
    """The labels of a task's test split, in the order of the records' predictions; None where they are not shipped."""
    path = records.SHIPPED / task / TRUTH
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def groups(found: Sequence[Record]) -> dict[tuple[str, str, int], list[Record]]:
    """(task, backbone, labels) -> its records; tasks in the order of `TASKS`."""
    order = list(TASKS)
    ordered = sorted(found, key=lambda r: (order.index(r.task), r.backbone, r.labels, r.seed))
    made: dict[tuple[str, str, int], list[Record]] = {}
    for record in ordered:
        made.setdefault((record.task, record.backbone, record.labels), []).append(record)
    return made


def points(found: Sequence[Record], value: Callable[[Record], float] = lambda record: record.score) -> str:
    """Mean ± standard deviation over seeds of the records' scores, or of another value, in hundredths.

    "" of none; of one record its value alone, since one seed has no spread.
    """
    if not found:
        return ""
    mean, spread, seeds = statistics.mean_and_spread(map(value, found))
    return f"{100 * mean:.1f} ± {100 * spread:.1f}" if seeds > 1 else f"{100 * mean:.1f}"


def scores_table() -> str:
    """One row a task, backbone and number of labels: full fine-tuning beside its baselines, mean ± spread over seeds.

    In points of the task's metric; the spread is the standard deviation over seeds.
    """
    lines = ["| task | metric | labels | backbone | " + " | ".join(STARTS.values()) + " |", "|---" * 8 + "|"]
    by_method = {method: groups(runs(method)) for method in STARTS}
    for (task, backbone, labels), full in by_method["full"].items():
        cells = [full] + [
            by_method[method].get((task, "none" if method == "bag of words" else backbone, labels), [])
            for method in list(STARTS)[1:]
        ]
        told = " | ".join(map(points, cells))
        lines.append(f"| {TASKS[task]} | {METRICS[full[0].metric]} | {labels:,} | {backbone} | {told} |")
    return "\n".join(lines)


def rates_table(method: str = "full") -> str:
    """One row a task, backbone and number of labels: held-out score by learning rate, and the best rate."""
    lines = ["| task | labels | backbone | metric | held-out score by rate | best |", "|---" * 6 + "|"]
    for (task, backbone, labels), found in groups(runs(method)).items():
        tuned, best = found[0].settings["tuned_rates"], found[0].settings["learning_rate"]
        told = "   ".join(f"{row['learning_rate']:g}: {row['score']:.3f}" for row in tuned)
        lines.append(f"| {TASKS[task]} | {labels:,} | {backbone} | {METRICS[found[0].metric]} | {told} | {best:g} |")
    return "\n".join(lines)


def costs_table(method: str = "full") -> str:
    """One row a task, backbone and number of labels: what a run of full fine-tuning took.

    Weights trained, steps, seconds (mean over seeds), milliseconds a step, and the run's peak memory with its meter.
    """
    lines = ["| task | labels | backbone | weights trained | steps | seconds | ms a step | device |", "|---" * 8 + "|"]
    for (task, backbone, labels), found in groups(runs(method)).items():
        settings, last = found[0].settings, max(row["step"] for row in found[0].history)
        seconds = statistics.mean_and_spread(record.seconds for record in found).mean
        lines.append(
            f"| {TASKS[task]} | {labels:,} | {backbone} | {found[0].parameters['trained']:,} | {last:,} "
            f"({settings['epochs']} epochs of {settings['batch_size']}) | {seconds:.0f} | {1000 * seconds / last:.0f} "
            f"| {found[0].device} |"
        )
    return "\n".join(lines)


def main() -> None:
    for name in TASKS:
        try:
            labels = list(tasks.load(name).splits["test"]["label"])
        except (ConnectionError, OSError) as error:
            print(f"{name}: {error}")
            continue
        storage.write_text(records.SHIPPED / name / TRUTH, json.dumps(labels) + "\n")
        print(f"{name}: {len(labels)} labels")


if __name__ == "__main__":
    main()
