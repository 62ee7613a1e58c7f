"""Lesson 08's recorded experiments with adapters: initialization scale, layer spans, tasks in sequence.

    python -m peft_helpers.adapter_runs --out peft_helpers/pocket/records/adapters

1. `scales`: adapters drawn with standard deviations from 1e-7 to 1, trained alike, judged on dev (arXiv:1902.00751,
   figure 6, right).
2. `spans`: one trained model, judged on test with the adapters of some neighboring layers taken out, and nothing
   trained again (figure 6, left).
3. `sequence`: several tasks one after the other, over one backbone. With adapters it is frozen, and each task keeps
   its own few tensors; with full fine-tuning it is carried on from task to task, and each task keeps its head. After
   each task all earlier ones are judged again.

A finished run is on the disk at once; what was made with other weights or settings is made anew. About six minutes on
two idle cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from peft_helpers import backbones, evaluation, experiments, methods, records, tasks, training
from peft_helpers.adapter_records import own
from peft_helpers.records import Record
from peft_helpers.tasks import Task
from peft_helpers.training import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COMMAND = "python -m peft_helpers.adapter_runs --out peft_helpers/pocket/records/adapters"
BOTTLENECK, BATCH, SEEDS = 16, 16, (0, 1, 2)
RATE, FULL_RATE = 1e-3, 3e-4  # of adapters, of full fine-tuning
SCALES = (1e-7, 1e-5, 1e-3, 1e-2, 1e-1, 1.0)
SCALE_TASK, SCALE_LABELS, SCALE_EPOCHS = "topic", 400, 5
SPAN_TASK, SPAN_LABELS, SPAN_EPOCHS = "sentiment", 1800, 4
SEQUENCE = ("sentiment", "topic", "acceptability", "paraphrase", "similarity")
SEQUENCE_LABELS, SEQUENCE_EPOCHS = 400, 5
KINDS = {"adapters": "adapters, backbone frozen", "full": "full fine-tuning, one after the other"}


# ---------------------------------------------------------------- initialization scale


def scales(backbone: str, folder: Path, stds: Sequence[float] = SCALES, seeds: Sequence[int] = SEEDS) -> list[Record]:
    """One run a standard deviation and seed; judged on the whole dev split."""
    made = []
    for std in stds:
        for seed in seeds:
            task = tasks.load(SCALE_TASK).subset(SCALE_LABELS, seed)
            name = f"adapters-init-{task.name}-{backbone}-{std:g}-{seed}".replace("/", "--")
            settings = _settings(RATE, SCALE_EPOCHS, seed)
            if (record := _known(name, folder, backbone, SCALE_LABELS, settings)) is None:
                method = methods.Houlsby(bottleneck=BOTTLENECK, init_std=std)
                model, tokenizer = _adapted(backbone, task, method, seed)
                try:
                    done = training.fit(model, tokenizer, task.short_dev(), settings)
                except FloatingPointError:
                    continue
                result = training.evaluate(model, tokenizer, task, "dev")
                about = {"experiment": "init", "init_std": std}
                record = _saved(name, done, result, f"{_label(method)}, init {std:g}", about, folder, "dev", model)
            made.append(record)
    return made


# ---------------------------------------------------------------- layer spans


def spans(backbone: str, folder: Path, seeds: Sequence[int] = SEEDS) -> list[Record]:
    """Train once a seed; judge the whole model, and without every span of neighboring layers."""
    made = []
    for seed in seeds:
        task = tasks.load(SPAN_TASK).subset(SPAN_LABELS, seed)
        stem = f"adapters-span-{task.name}-{backbone}-{seed}".replace("/", "--")
        run = _settings(RATE, SPAN_EPOCHS, seed)
        known = _known(f"{stem}-whole", folder, backbone, SPAN_LABELS, run)
        names = known.settings["spans"] if known else []
        shelf = [_known(f"{stem}-{name}", folder, backbone, SPAN_LABELS, run) for name in names]
        if known is not None and all(shelf):
            made += [known, *shelf]
            continue
        method = methods.Houlsby(bottleneck=BOTTLENECK)
        model, tokenizer = _adapted(backbone, task, method, seed)
        done = training.fit(model, tokenizer, task.short_dev(), run)
        every = all_spans(len(backbones.anatomy(model).layers))
        for first, last in [(None, None), *every]:
            result = without_layers(model, tokenizer, task, first, last)
            name = "whole" if first is None else f"{first}-{last}"
            about = {
                "experiment": "span",
                "first": first,
                "last": last,
                "spans": [f"{a}-{b}" for a, b in every],
                "loss": result.loss,
            }
            label = _label(method) + (", whole" if first is None else f" without layers {name}")
            made.append(_saved(f"{stem}-{name}", done, result, label, about, folder, "test", model))
    return made


def all_spans(layers: int) -> list[tuple[int, int]]:
    """(first, last) of every span of neighboring layers, both ends included."""
    return [(first, last) for first in range(layers) for last in range(first, layers)]


def without_layers(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, first: int | None, last: int | None
) -> training.Evaluation:
    """The test score while the adapters of layers first … last are taken out; of the whole model for None."""
    if first is None or last is None:
        return training.evaluate(model, tokenizer, task)
    with methods.disabled(model, layers=range(first, last + 1)):
        return training.evaluate(model, tokenizer, task)


# ---------------------------------------------------------------- tasks in sequence


def sequence(backbone: str, folder: Path, names: Sequence[str] = SEQUENCE, seed: int = 0) -> list[Record]:
    """Both ways through all tasks; a record for every (kind, tasks learned so far, task that is judged)."""
    made = []
    for kind, learn in (("adapters", _with_adapters), ("full", _with_full_fine_tuning)):
        stem = f"adapters-sequence-{kind}-{backbone}-{seed}".replace("/", "--")
        wanted = [f"{stem}-{k}-{name}" for k in range(1, len(names) + 1) for name in names[:k]]
        run = _settings({"adapters": RATE, "full": FULL_RATE}[kind], SEQUENCE_EPOCHS, seed)
        shelf = [_known(name, folder, backbone, SEQUENCE_LABELS, run) for name in wanted]
        if all(shelf):
            made += shelf
            continue
        first: dict[str, Tensor] = {}
        chosen = [tasks.load(name).subset(SEQUENCE_LABELS, seed) for name in names]
        for k, done, judged in learn(backbone, chosen, run):
            for task, outputs in judged:
                before = first.setdefault(task.name, outputs)
                about = {
                    "experiment": "sequence", "kind": kind, "learned": k, "order": list(names),
                    "identical": torch.equal(before, outputs), "change": (before - outputs).abs().max().item(),
                }  # fmt: skip
                made_by = dataclasses.replace(done, task=task.name, metric=task.metric, history=[])
                name, label = f"{stem}-{k}-{task.name}", f"{kind} in sequence, {k} learned"
                made.append(_saved(name, made_by, _judge(outputs, task), label, about, folder, "test"))
    return made


Judged = list[tuple[Task, Tensor]]


def _with_adapters(
    backbone: str, chosen: Sequence[Task], settings: Settings
) -> Iterator[tuple[int, training.Run, Judged]]:
    """Learn task after task in one model that is never loaded again; every task is a saved folder."""
    model, tokenizer = backbones.load(backbone, chosen[0], seed=settings.seed)
    with tempfile.TemporaryDirectory() as place:
        for k, task in enumerate(chosen, 1):
            methods.switch(model, None)
            new_head(model, task, settings.seed)
            torch.manual_seed(settings.seed)
            methods.apply(model, methods.Houlsby(bottleneck=BOTTLENECK))
            done = training.fit(model, tokenizer, task.short_dev(), settings)
            methods.save(model, Path(place) / task.name)
            judged = []
            for earlier in chosen[:k]:
                methods.switch(model, Path(place) / earlier.name)
                judged.append((earlier, outputs_on(model, tokenizer, earlier)))
            yield k, done, judged


def _with_full_fine_tuning(
    backbone: str, chosen: Sequence[Task], settings: Settings
) -> Iterator[tuple[int, training.Run, Judged]]:
    """Carry one body on from task to task; each task keeps the head that it ended with."""
    model, tokenizer = backbones.load(backbone, chosen[0], seed=settings.seed)
    heads: dict[str, nn.Module] = {}
    for k, task in enumerate(chosen, 1):
        heads[task.name] = new_head(model, task, settings.seed)
        done = training.fit(model, tokenizer, task.short_dev(), settings)
        judged = []
        for earlier in chosen[:k]:
            model.classifier = heads[earlier.name]
            judged.append((earlier, outputs_on(model, tokenizer, earlier)))
        yield k, done, judged


def new_head(model: nn.Module, task: Task, seed: int = 0) -> nn.Linear:
    """Give a classifier whose head is one linear layer, `model.classifier`, a fresh one for this task.

    Raises:
        ValueError: its head is something else.
    """
    old = getattr(model, "classifier", None)
    if not isinstance(old, nn.Linear):
        raise ValueError(f"new_head replaces a linear layer `classifier`; {type(model).__name__} has {old!r:.60}")
    torch.manual_seed(seed)
    model.classifier = nn.Linear(old.in_features, task.outputs).to(old.weight.device)
    nn.init.normal_(model.classifier.weight, std=model.config.initializer_range)
    nn.init.zeros_(model.classifier.bias)
    model.config.num_labels = model.num_labels = task.outputs
    model.config.problem_type = "regression" if task.kind == "regression" else None
    return model.classifier


def outputs_on(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, split: str = "test", rows: int | None = None
) -> Tensor:
    """(N, K): what the model says about a split's first `rows` texts, in fixed batches, so that equal means equal."""
    encoded = training.encode(task, split, tokenizer, training.length_limit(model, tokenizer))
    count, device = min(rows or len(encoded.inputs), len(encoded.inputs)), next(model.parameters()).device
    model.eval()
    made = []
    with torch.no_grad():
        for start in range(0, count, 50):
            batch = training.collate(encoded, range(start, min(start + 50, count)), tokenizer.pad_token_id)
            batch = {key: value.to(device) for key, value in batch.items() if key != "labels"}
            made.append(model(**batch).logits.float().cpu())
    return torch.cat(made)


def _judge(outputs: Tensor, task: Task) -> training.Evaluation:
    said = outputs.argmax(-1) if task.kind == "classification" else outputs.squeeze(-1)
    labels = list(task.splits["test"]["label"])
    loss = training.loss_sum(outputs, torch.tensor(labels), task.kind).item() / len(labels)
    score = evaluation.score(task.metric, said.tolist(), labels)
    return training.Evaluation(task.metric, score, loss, said.tolist(), labels)


# ---------------------------------------------------------------- what they share, and reading


def _adapted(backbone: str, task: Task, method: methods.Method, seed: int):
    model, tokenizer = backbones.load(backbone, task, seed=seed)
    torch.manual_seed(seed)
    return methods.apply(model, method), tokenizer


def _settings(rate: float, epochs: int, seed: int) -> Settings:
    return Settings(rate, epochs=epochs, batch_size=BATCH, seed=seed, keep_best=False, progress=False, precision="fp32")


def _label(method: methods.Houlsby) -> str:
    return f"Houlsby(bottleneck={method.bottleneck})"


def _known(name: str, folder: Path, backbone: str, labels: int, settings: Settings) -> Record | None:
    """The record of this name, if it was made with the weights that are installed, and in this way."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    known, wanted = records.read(path), {**dataclasses.asdict(settings), "labels": labels}
    had = {**known.settings, "labels": known.labels, "seed": known.seed}
    same = all(had.get(key) == wanted[key] for key in ("labels", "seed", "epochs", "learning_rate", "batch_size"))
    return known if same and known.backbone_sha256 == backbones.weights_hash(backbone) else None


def _saved(
    name: str,
    done: training.Run,
    result: training.Evaluation,
    label: str,
    about: dict,
    folder: Path,
    split: str,
    model: nn.Module | None = None,
) -> Record:
    record = experiments.to_record(name, done, result, label, about, COMMAND, model)
    record = dataclasses.replace(record, split=split)
    records.save(record, folder, replace=True)
    print(f"{name:60} {record.metric} {record.score:.3f}", flush=True)
    return record


def recorded(experiment: str, backbone: str, folder: str | Path | None = None) -> list[Record]:
    """The records of one experiment, "init", "span" or "sequence".

    Of the weights that are installed, or, where there are none of those, of others.
    """
    shelf = records.load(folder, backbone=backbone)
    return own(record for record in shelf if record.settings.get("experiment") == experiment)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments from the command line."""
    parser = argparse.ArgumentParser(
        prog=COMMAND.partition(" --")[0], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS))
    parser.add_argument("--out", type=Path, default=records.own_folder() / "adapters")
    given = parser.parse_args(arguments)
    for name in given.only:
        EXPERIMENTS[name](given.backbone, given.out)


EXPERIMENTS: dict[str, Any] = {"init": scales, "span": spans, "sequence": sequence}

if __name__ == "__main__":
    main()
