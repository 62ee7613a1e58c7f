"""Which settings matter? Lesson 06's recorded runs: schedule shape × rate, and the best rate by task and label count.

    python -m peft_helpers.schedule_sweep --out peft_helpers/pocket/records/schedules

Two sweeps of one pretrained encoder, one seed, judged on dev after every epoch; test is not touched.

1. Every schedule of `schedules.DECAYS` at every rate of `RATES`, on the same labels: records "cosine at 0.001".
2. Several tasks at few and at more labels, each for the same number of steps, by the linear schedule: records
   "40 steps at 0.001".

A finished run is on the disk at once, so a sweep that was stopped goes on where it was; results of other weights are
made anew. A rate that diverges leaves no record.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from peft_helpers import backbones, experiments, records, schedules, tasks, training
from peft_helpers.tasks import Task
from peft_helpers.training import Settings

TASK, LABELS, EPOCHS, BATCH = "sentiment", 200, 4, 16
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
TASKS, COUNTS, STEPS = ("sentiment", "topic", "similarity"), (50, 400), 40
COMMAND = "python -m peft_helpers.schedule_sweep --out peft_helpers/pocket/records/schedules"


def shapes(backbone: str, folder: Path, rates: Sequence[float] = RATES) -> list[records.Record]:
    """Every schedule at every rate, on the same few labels."""
    task = tasks.load(TASK, labels=LABELS)
    made = []
    for shape in schedules.DECAYS:
        for rate in rates:
            settings = Settings(rate, epochs=EPOCHS, schedule=shape, **_common())
            made.append(one_run(task, backbone, settings, f"{shape} at {rate:g}", folder))
    return [record for record in made if record]


def by_task(backbone: str, folder: Path, rates: Sequence[float] = RATES) -> list[records.Record]:
    """Every task of `TASKS` that is there, with few and with more labels, at every rate."""
    made = []
    for task in available(TASKS):
        for labels in COUNTS:
            for rate in rates:
                few = task.subset(labels)
                epochs = math.ceil(STEPS / math.ceil(labels / BATCH))
                settings = Settings(rate, epochs=epochs, **_common())
                made.append(one_run(few, backbone, settings, f"{STEPS} steps at {rate:g}", folder, watched=40))
    return [record for record in made if record]


def available(names: Sequence[str]) -> Iterator[Task]:
    """The tasks of these names; one whose data this installation has not is passed over."""
    for name in names:
        try:
            yield tasks.load(name)
        except (ValueError, OSError):
            continue


def one_run(
    task: Task, backbone: str, settings: Settings, method: str, folder: Path, watched: int | None = None
) -> records.Record | None:
    """Train, judge on the whole dev split, save; or read what an earlier call saved. None if the run diverged.

    Args:
        watched: so many rows of dev are looked at after each epoch; all of them by default.
    """
    labels = len(task.splits["train"])
    name = f"{task.name}-{labels}-{backbone}-{method}".replace("/", "--").replace(" ", "-")
    path, weights = folder / f"{name}.json", backbones.weights_hash(backbone)
    if path.is_file() and (known := records.read(path)).backbone_sha256 == weights:
        return known
    model, tokenizer = backbones.load(backbone, task, seed=settings.seed)
    try:
        done = training.fit(model, tokenizer, task if watched is None else task.short_dev(watched), settings)
    except FloatingPointError:
        return None
    result = training.evaluate(model, tokenizer, task, "dev")
    if not (math.isfinite(result.score) and math.isfinite(result.loss)):
        return None
    record = experiments.to_record(name, done, result, method, {}, COMMAND, model)
    record = dataclasses.replace(record, split="dev")
    records.save(record, folder, replace=True)
    print(f"{name:60} {task.metric} {result.score:.3f}, loss {result.loss:.3f}", flush=True)
    return record


def recorded(backbone: str = "pocket-bert", task: str = TASK) -> dict[tuple[str, float], records.Record]:
    """(shape, rate) -> the recorded run, in the order of `DECAYS` and rising rates.

    Runs of the weights that are installed, or, where there are none, of others (`of_these_weights` tells).
    """
    shelf = records.load(task=task, backbone=backbone, split="dev", labels=LABELS)
    found = {(record.method.split(" at ")[0], record.settings.get("learning_rate")): record for record in _own(shelf)}
    order = {shape: i for i, shape in enumerate(schedules.DECAYS)}
    kept = {key: record for key, record in found.items() if key[0] in order}
    return dict(sorted(kept.items(), key=lambda item: (order[item[0][0]], item[0][1])))


def recorded_by_task(backbone: str = "pocket-bert") -> dict[tuple[str, int], dict[float, records.Record]]:
    """(task, labels) -> rate -> the recorded run, tasks in the order of `TASKS`; weights as in `recorded`."""
    found: dict[tuple[str, int], dict[float, records.Record]] = {}
    for task in TASKS:
        shelf = _own(records.load(task=task, backbone=backbone, split="dev"))
        made = [record for record in shelf if record.method.startswith(f"{STEPS} steps at ")]
        for record in sorted(made, key=lambda record: (record.labels, record.settings["learning_rate"])):
            found.setdefault((task, record.labels), {})[record.settings["learning_rate"]] = record
    return found


def of_these_weights(record: records.Record) -> bool:
    """Whether a record was made with the backbone's weights that are installed here."""
    return record.backbone_sha256 == backbones.weights_hash(record.backbone)


def _own(shelf: Sequence[records.Record]) -> list[records.Record]:
    """Those among this module's records that belong to the installed weights; if none does, all of them."""
    made = [record for record in shelf if record.command == COMMAND]
    return [record for record in made if of_these_weights(record)] or made


def _common() -> dict:
    return {"batch_size": BATCH, "keep_best": False, "progress": False, "precision": "fp32"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both sweeps from the command line, and print their table."""
    parser = argparse.ArgumentParser(
        prog=COMMAND.partition(" --")[0], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--out", type=Path, default=records.own_folder() / "schedules")
    given = parser.parse_args(arguments)
    print(records.table(shapes(given.backbone, given.out) + by_task(given.backbone, given.out)))


if __name__ == "__main__":
    main()
