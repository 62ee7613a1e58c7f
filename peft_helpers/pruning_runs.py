"""One fine-tuned model, pruned in several ways and to several degrees: what lesson 07's explorer shows.

    python -m peft_helpers.pruning_runs --out peft_helpers/pocket/records/pruning

Every pruned model is judged on test as it is, and again after a short recovery training on the labels that the model
was fine-tuned on. All are timed in one run, each between two calls of the whole model; so is an identical copy of it,
whose share of the time should be 1. The records of an earlier sweep are replaced; it takes about three minutes on an
idle processor.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peft_helpers import accounting, backbones, experiments, pruning, records, tasks, training
from peft_helpers.tasks import Task

KINDS = {
    "global": "zeros, all matrices together",
    "tensor": "zeros, each matrix alone",
    "structured": "heads and units removed",
}
SHARES = (0.25, 0.5, 0.75, 0.9)
LABELS, EPOCHS, BATCH, RATE = 400, 4, 16, 3e-4
RECOVERY = {"epochs": 2, "learning_rate": RATE}
COMMAND = "python -m peft_helpers.pruning_runs"


def pruned(model: nn.Module, kind: str, share: float) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A pruned copy, and the masks that hold its zeros (none where units were removed).

    Raises:
        ValueError: another kind than those of `KINDS`.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of pruning {kind!r}; there are {', '.join(KINDS)}")
    model = copy.deepcopy(model)
    if kind == "structured":
        return pruning.remove_units(model, *pruning.weakest(model, share)), {}
    return model, pruning.zero_weights(model, share, kind)


def recover(
    model: nn.Module, masks: dict[str, torch.Tensor], tokenizer: Any, task: Task, settings: training.Settings
) -> training.Run:
    """Train a pruned model a little more; what was set to zero stays zero."""
    with pruning.held(model, masks):
        return training.fit(model, tokenizer, task, settings)


def reader(model: nn.Module, tokenizer: Any, task: Task, texts: int = 8) -> Callable[[], Any]:
    """A function that runs the first test texts through the model once, as one batch.

    Few texts: a short call is seldom interrupted by other work on the machine.
    """
    encoded = training.encode(task, "test", tokenizer, training.length_limit(model, tokenizer))
    batch = training.collate(encoded, range(min(texts, len(encoded.inputs))), tokenizer.pad_token_id)
    batch = {key: tensor.to(next(model.parameters()).device) for key, tensor in batch.items() if key != "labels"}

    def run() -> None:
        model.eval()
        with torch.no_grad():
            model(**batch)

    return run


def sweep(task_name: str, backbone: str, folder: Path, shares: Sequence[float] = SHARES) -> list[records.Record]:
    """Fine-tune, prune, time, judge, recover, judge again; save a record each."""
    task = tasks.load(task_name, labels=LABELS).short_dev()
    model, tokenizer = backbones.load(backbone, task, seed=0)
    usual = {"batch_size": BATCH, "keep_best": False, "progress": False}
    base = training.fit(model, tokenizer, task, training.Settings(RATE, epochs=EPOCHS, **usual))
    models = {("none", 0.0): (model, {})}
    models |= {(kind, share): pruned(model, kind, share) for kind in KINDS for share in shares}
    timed = {**models, ("copy", 0.0): (copy.deepcopy(model), {})}  # how exact the times are
    times = accounting.latencies({key: reader(one, tokenizer, task) for key, (one, _) in timed.items()}, rounds=40)
    made = []
    for (kind, share), (one, masks) in models.items():
        about = {
            "kind": kind,
            "share": share,
            "file_bytes": accounting.stored_bytes(one.state_dict()),
            "zipped_bytes": accounting.stored_bytes(one.state_dict(), packed=True),
            "milliseconds": 1000 * times[kind, share].seconds,
            "time_share": times[kind, share].share,
            "copy_time_share": times["copy", 0.0].share,
        }
        made.append(_record(base, one, tokenizer, task, about | {"recovered": False}))
        settings = training.Settings(**RECOVERY, **usual)
        recover(one, masks, tokenizer, task, settings)
        made.append(_record(base, one, tokenizer, task, about | {"recovered": True}))
    for record in made:
        records.save(record, folder, replace=True)
    return made


def _record(base: training.Run, model: nn.Module, tokenizer: Any, task: Task, about: dict[str, Any]) -> records.Record:
    what = f"pruned {about['kind']} {about['share']:g}" + (" recovered" if about["recovered"] else "")
    name = f"pruning-{task.name}-{LABELS}-{base.backbone}-{what.removeprefix('pruned ').replace(' ', '-')}"
    result = training.evaluate(model, tokenizer, task, "test")
    record = experiments.to_record(name.replace("/", "--"), base, result, what, about, COMMAND)
    count = sum(p.numel() for p in model.parameters())
    return dataclasses.replace(record, parameters=dict.fromkeys(records.PARAMETERS, count))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sweep from the command line, and print its table."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Prune one fine-tuned model, for lesson 07.")
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--out", type=Path, default=records.own_folder())
    given = parser.parse_args(arguments)
    for record in sweep(given.task, given.backbone, given.out):
        about = record.settings
        size, time = accounting.megabytes(about["file_bytes"]), about["time_share"]
        print(f"{record.method:32} {size:>8}  time × {time:.2f}  {record.metric} {record.score:.3f}")


if __name__ == "__main__":
    main()
