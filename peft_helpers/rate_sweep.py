"""One run a learning rate, from far too small to far too large: the curves that lesson 05's explorer shows.

    python -m peft_helpers.rate_sweep

Both starts, pretrained and random weights, on few labels, watched on the whole dev split after every epoch. Dev chooses
nothing here, and test is not touched. A finished run is on the disk at once, so a sweep that was stopped goes on where
it was; results of other weights are made anew.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from peft_helpers import backbones, experiments, records, tasks, training

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
LABELS, EPOCHS, BATCH = 200, 6, 16
STARTS = {"pretrained": "full", "random weights": "scratch"}  # as lesson 05 calls them: `experiments.METHODS`
COMMAND = "python -m peft_helpers.rate_sweep"


def sweep(task_name: str, backbone: str, folder: Path, rates: Sequence[float] = RATES) -> list[records.Record]:
    """Train once a start and rate; save a record each, with all rows, of train and dev, as its history.

    A record's method is "full at 0.001" or "scratch at 0.001" (`experiments.METHODS` and the rate), its split dev. A
    rate that diverges leaves no record.
    """
    task, made = tasks.load(task_name, labels=LABELS), []
    known = {record.id: record for record in records.load(folder)} if folder.is_dir() else {}
    current = backbones.weights_hash(backbone)
    for method in experiments.METHODS:
        for rate in rates:
            name = f"rate-sweep-{task.name}-{LABELS}-{backbone}-{method}-{rate:g}".replace("/", "--")
            if name not in known or known[name].backbone_sha256 != current:
                model, tokenizer = backbones.load(backbone, task, pretrained=method != "scratch", seed=0)
                settings = training.Settings(rate, epochs=EPOCHS, batch_size=BATCH, keep_best=False, progress=False)
                try:
                    done = training.fit(model, tokenizer, task, settings)
                except FloatingPointError:
                    continue
                result = training.evaluate(model, tokenizer, task, "dev")
                record = experiments.to_record(name, done, result, f"{method} at {rate:g}", {}, COMMAND, model)
                known[name] = dataclasses.replace(record, split="dev", history=_rows(done))
                records.save(known[name], folder, replace=True)
            made.append(known[name])
    return made


def _rows(done: training.Run) -> list[dict]:
    """A run's history without what a figure does not show: step, split, loss (nats), and the metric where dev is."""
    kept = ("step", "split", "loss", done.metric)
    numbers = [{key: row[key] for key in kept if key in row} for row in done.history]
    return [{key: round(n, 4) if isinstance(n, float) else n for key, n in row.items()} for row in numbers]


def _shelf(task_name: str, backbone: str, folder: Path | None) -> list[records.Record]:
    """The sweep's records that were made with this backbone's present weights."""
    same = {"task": task_name, "split": "dev", "labels": LABELS, "backbone": backbone}
    return records.load(folder, **same, backbone_sha256=backbones.weights_hash(backbone))


def history(
    task_name: str, backbone: str, rate: float, start: str = "pretrained", folder: Path | None = None
) -> list[dict]:
    """One recorded run's rows, as `plots.training_curve` draws them; an empty list where nothing is recorded.

    Args:
        start: "pretrained" or "random weights".
        folder: of the records; by default those that ship with the course, and yours.
    """
    wanted = f"{STARTS[start]} at {rate:g}"
    return next((one.history for one in _shelf(task_name, backbone, folder) if one.method == wanted), [])


def curves(
    task_name: str, backbone: str, folder: Path | None = None
) -> dict[float, dict[str, tuple[list[int], list[float]]]]:
    """The recorded sweep for `widgets.curve_explorer`: rate, rising -> name of a start -> (steps, scores on dev).

    A rate that diverged from both starts is left out; where nothing is recorded for these weights, there is no rate.

    Args:
        folder: of the records; by default those that ship with the course, and yours.
    """
    shelf = _shelf(task_name, backbone, folder)
    found: dict[float, dict[str, tuple[list[int], list[float]]]] = {}
    for start, method in STARTS.items():
        for record in shelf:
            if record.method.startswith(f"{method} at "):
                rows = [(row["step"], row[record.metric]) for row in record.history if row["split"] == "dev"]
                line = [step for step, _ in rows], [score for _, score in rows]
                found.setdefault(record.settings["learning_rate"], {})[start] = line
    return dict(sorted(found.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sweep from the command line, and print its table."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="One run a learning rate, for lesson 05.")
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--out", type=Path, default=records.own_folder())
    given = parser.parse_args(arguments)
    print(records.table(sweep(given.task, given.backbone, given.out)))


if __name__ == "__main__":
    main()
