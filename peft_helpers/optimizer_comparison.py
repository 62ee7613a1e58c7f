"""Which optimizer fine-tunes best? Lesson 03's comparison: the learning rate tuned for each, several seeds.

    python -m peft_helpers.optimizer_comparison

Each optimizer gets five rates: it trains on four fifths of the first seed's labels, and the loss on the last fifth
judges the rate, over three splits. The best rate then trains on all the labels, once a seed, and only those runs see
the test split. AdamW, with and without bias correction at the same rate, runs on ten seeds. A finished run is on the
disk at once, so a comparison that was stopped goes on where it was; results of other weights are made anew.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from peft_helpers import accounting, backbones, baselines, experiments, records, storage, tasks, training
from peft_helpers.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from peft_helpers.profiles import default_device
from peft_helpers.training import batches, collate, loss_sum, rate_factor

if TYPE_CHECKING:
    from torch import nn

    from peft_helpers.tasks import Task
    from peft_helpers.training import Encoded

LABELS, EPOCHS, BATCH, MAX_LENGTH = 300, 4, 16, 48
SPLITS, SEEDS, MANY_SEEDS = 3, 3, 10
COMMAND = "python -m peft_helpers.optimizer_comparison"
BASELINES = ("bag of words", "linear probe")
UNCORRECTED = "AdamW, uncorrected"  # at AdamW's own rate: what the missing bias correction does, all else equal
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": lambda parameters, rate: SGD(parameters, rate),
    "momentum": lambda parameters, rate: SGD(parameters, rate, momentum=0.9),
    "RMSprop": lambda parameters, rate: RMSprop(parameters, rate),
    "Adam": lambda parameters, rate: Adam(parameters, rate),
    "AdamW": lambda parameters, rate: AdamW(parameters, rate),
    UNCORRECTED: lambda parameters, rate: AdamW(parameters, rate, bias_correction=False),
}
RATES = {  # five trials each, from too small to too large
    "SGD": (3e-2, 1e-1, 3e-1, 1.0, 3.0),
    "momentum": (3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "RMSprop": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    "Adam": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    "AdamW": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
}


def fine_tune(
    model: nn.Module, data: Encoded, optimizer: Optimizer, epochs: int, seed: int, batch_size: int = 16
) -> list[float]:
    """Train on `data`, the rate rising for a tenth of the steps, then falling to 0; the loss of each batch.

    Raises:
        ValueError: a gradient became NaN or infinite.
    """
    torch.manual_seed(seed)  # dropout
    device, pad = next(model.parameters()).device, model.config.pad_token_id
    rate, losses = optimizer.learning_rate, []
    order = [rows for epoch in range(epochs) for rows in batches(data.lengths, batch_size, seed, epoch)]
    model.train()
    for step, rows in enumerate(order):
        batch = {name: part.to(device) for name, part in collate(data, rows, pad).items()}
        labels = batch.pop("labels")
        optimizer.zero_grad()
        loss = loss_sum(model(**batch).logits, labels, "classification") / len(rows)
        loss.backward()
        optimizer.learning_rate = rate * rate_factor(step, len(order), warmup=0.1)
        optimizer.step()
        losses.append(loss.item())
    return losses


def recorded(task: str, backbone: str) -> list[records.Record]:
    """This comparison's records, optimizers and baselines; empty where it was not made."""
    return [record for record in records.load(task=task) if record.id.startswith(f"{_prefix(task, backbone)}-")]


def baseline_scores(found: Sequence[records.Record]) -> dict[str, float]:
    """The mean score over seeds of each baseline among these records: "words" and "probe" for short."""
    scores = {name: [record.score for record in found if record.method == name] for name in BASELINES}
    return {name.split()[-1]: sum(values) / len(values) for name, values in scores.items() if values}


# ---------------------------------------------------------------- tuning


class Journal:
    """The tuning runs' results, one JSON object a line; runs of other weights are forgotten.

    Args:
        path: the file; it need not exist.
        weights: the backbone's hash.
    """

    def __init__(self, path: Path, weights: str | None):
        self.path, self.weights = path, weights
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        self.rows = [row for row in map(json.loads, lines) if row["weights"] == weights]

    def find(self, **key: Any) -> dict[str, Any] | None:
        """The row with these values, if there is one."""
        return next((row for row in self.rows if row.items() >= key.items()), None)

    def add(self, **row: Any) -> dict[str, Any]:
        """Keep a row; the file is whole at any time."""
        self.rows.append({"weights": self.weights, **row})
        storage.write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))
        return self.rows[-1]


def tune(name: str, task: Task, backbone: str, journal: Journal) -> list[dict[str, Any]]:
    """One row a rate: {"learning_rate", "loss": the mean over the splits (None: a run diverged)}."""
    table = []
    for rate in RATES[name]:
        found = []
        for split in range(SPLITS):
            key = {"task": task.name, "backbone": backbone, "optimizer": name, "learning_rate": rate, "split": split}
            row = journal.find(**key)
            if row is None:
                cut = experiments.tuning_task(task, split)
                _, model, tokenizer = train(name, rate, cut, backbone, split)
                loss = training.evaluate(model, tokenizer, cut, "dev", MAX_LENGTH).loss if model else math.nan
                row = journal.add(**key, loss=round(loss, 6) if math.isfinite(loss) else None)
            found.append(row["loss"])
        table.append({"learning_rate": rate, "loss": None if None in found else round(sum(found) / len(found), 4)})
    return table


def train(name: str, rate: float, task: Task, backbone: str, seed: int):
    """(loss of each batch, model, tokenizer) of one run; the model is None if it diverged."""
    model, tokenizer = backbones.load(backbone, task, seed=seed)
    model.to(default_device())
    data = training.encode(task, "train", tokenizer, MAX_LENGTH)
    try:
        losses = fine_tune(model, data, OPTIMIZERS[name](model.parameters(), rate), EPOCHS, seed)
    except ValueError:  # a gradient that is no number any more: a result too
        return [], None, tokenizer
    return losses, model, tokenizer


# ---------------------------------------------------------------- the runs that are recorded


def compare(task_name: str, backbone: str, folder: Path) -> list[records.Record]:
    """Tune and run everything that is not in `folder` yet."""
    whole, weights = tasks.load(task_name), backbones.weights_hash(backbone)
    journal, made, tables = Journal(folder / "tuning.jsonl", weights), [], {}
    for name in OPTIMIZERS:
        tuned_as = "AdamW" if name == UNCORRECTED else name
        if tuned_as not in tables:
            tables[tuned_as] = tune(tuned_as, whole.subset(LABELS, 0), backbone, journal)
        for seed in range(MANY_SEEDS if tuned_as == "AdamW" else SEEDS):
            made.append(final_run(name, tables[tuned_as], whole.subset(LABELS, seed), backbone, weights, seed, folder))
    return made + [
        baseline(name, whole, backbone, weights, seed, folder) for name in BASELINES for seed in range(SEEDS)
    ]


def final_run(
    name: str, table: list[dict], task: Task, backbone: str, weights: str | None, seed: int, folder: Path
) -> records.Record:
    """Train on all the labels at the best rate, predict test, save; or read what an earlier call saved."""
    path = record_path(folder, task.name, backbone, name, seed)
    best = min((row for row in table if row["loss"] is not None), key=lambda row: row["loss"])
    settings = {
        "learning_rate": best["learning_rate"], "epochs": EPOCHS, "batch_size": BATCH, "warmup": 0.1,
        "max_length": MAX_LENGTH, "tuned_rates": table,
    }  # fmt: skip
    if path.is_file():
        known = records.read(path)
        if known.backbone_sha256 == weights and known.settings == settings:
            return known
    started = time.perf_counter()
    losses, model, tokenizer = train(name, best["learning_rate"], task, backbone, seed)
    seconds = time.perf_counter() - started
    if model is None:
        raise ValueError(f"{name} diverged at its tuned rate {best['learning_rate']:g}, seed {seed}")
    result, parameters = training.evaluate(model, tokenizer, task, "test", MAX_LENGTH), _count(model)
    record = records.Record(
        id=path.stem, task=task.name, split="test", labels=LABELS, backbone=backbone, backbone_sha256=weights,
        method=name, settings=settings, seed=seed, metric=task.metric, score=result.score,
        predictions=list(result.predictions), parameters=dict.fromkeys(records.PARAMETERS, parameters),
        seconds=seconds, peak_memory_mb=accounting.peak_memory().megabytes,
        history=[{"step": step, "loss": round(loss, 4)} for step, loss in enumerate(losses)],
        command=COMMAND, **records.environment(),
    )  # fmt: skip
    records.save(record, folder, replace=True)
    print(f"{name:20} seed {seed}  rate {best['learning_rate']:g}  {task.metric} {result.score:.3f}", flush=True)
    return record


def baseline(name: str, task: Task, backbone: str, weights: str | None, seed: int, folder: Path) -> records.Record:
    """A line to hold the optimizers against, on the same labels."""
    path = record_path(folder, task.name, backbone, name, seed)
    if path.is_file() and (known := records.read(path)).backbone_sha256 in (weights, None):
        return known
    if name == "bag of words":
        found, used = baselines.bag_of_words(task, LABELS, seed), "none"
    else:
        found, used = baselines.linear_probe(backbone, task, LABELS, seed), backbone
    record = experiments.baseline_record(path.stem, task, found, used, name, seed, COMMAND)
    records.save(record, folder, replace=True)
    return record


def record_path(folder: Path, task: str, backbone: str, name: str, seed: int) -> Path:
    """The file of one run's record."""
    return folder / f"{_prefix(task, backbone)}-{name.lower().replace(',', '').replace(' ', '-')}-{seed}.json"


def _prefix(task: str, backbone: str) -> str:
    return f"optimizers-{task}-{LABELS}-{backbone.replace('/', '--')}"


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m peft_helpers.optimizer_comparison", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--task", default="sentiment", help="a classification task")
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--out", type=Path, default=records.own_folder() / "optimizers")
    given = parser.parse_args(arguments)
    print(records.table(compare(given.task, given.backbone, given.out)))


if __name__ == "__main__":
    main()
