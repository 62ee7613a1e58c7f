"""Experiments whose results ship as records: one method, learning rate tuned on held-out train, several seeds.

    python -m peft_helpers.experiments --task sst2 --backbone minilm --method full --labels 2000 --rates 3e-5 1e-4 3e-4
    python -m peft_helpers.experiments --task trails --backbone pocket-gpt2 --method Houlsby --set bottleneck=16 …

For each rate a run trains on four fifths of the labels and is judged on the last fifth (with `--folds 3` three runs,
each with another fifth and seed: one fifth of few labels says little, and a rate that fails now and then shows only
so; with `--tune-on 1500` all this on so many of the labels, where there are more than tuning needs; with `--widen 1` a
best rate at the end of the list lets the next one be tried, too); the best rate then trains on all of them, once a
seed, and only those runs see the test split. All labels count as used. A finished run is on the disk at once, so an
experiment that was stopped goes on where it was; with other rates it does what is new.

A method is any of `methods.available()`, besides "full" (all weights of the pretrained network) and "scratch" (the same
from random weights). For a generation task the rate is chosen by token accuracy, which needs no writing; the record's
score is BLEU on test, its predictions are the slot errors of each text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from peft_helpers import (
    accounting,
    backbones,
    baselines,
    batching,
    calculator,
    generation,
    measured_costs,
    methods,
    records,
    storage,
    tasks,
    training,
)
from peft_helpers.methods import surgery
from peft_helpers.tasks import Task
from peft_helpers.training import Settings

METHODS = {"full": "all weights of the pretrained network", "scratch": "the same network from random weights"}
SHOWN = 20  # texts that a record of a generation task keeps
MEASURED = 128  # training texts that FISH measures its mask on
RUN_BY = ("learning_rate", "epochs", "batch_size")  # with others it is another run
HELD_OUT = 5  # one part in so many of the labels tunes the learning rate


def label(method: str, options: Mapping[str, Any] | None = None) -> str:
    """A record's name for a method: its name and the settings that were given, such as `Houlsby(bottleneck=16)`.

    Raises:
        ValueError: no such method or setting.
    """
    if method in METHODS:
        if options:
            raise ValueError(f"{method} has no settings; got {', '.join(options)}")
        return method
    if method not in methods.available():
        raise ValueError(f"method must be one of {', '.join([*METHODS, *methods.available()])}; got {method!r}")
    methods.make(method, **(options or {}))
    given = ", ".join(f"{key}={value}" for key, value in sorted((options or {}).items()))
    return f"{method}({given})" if given else method


def prepare(backbone: str, task: Task, method: str, options: Mapping[str, Any] | None, seed: int):
    """The backbone with the method in it, and its tokenizer; the seed draws the head and the method's own weights."""
    model, tokenizer = backbones.load(backbone, task, pretrained=method != "scratch", seed=seed)
    if method not in METHODS:
        torch.manual_seed(seed)
        chosen = methods.make(method, **(options or {}))
        if isinstance(chosen, methods.FishMask):  # its mask is of the task's own texts, as in the paper
            chosen = chosen.measured(model, _texts(task, model, tokenizer, seed))
        methods.apply(model, chosen)
    return model, tokenizer


def _texts(task: Task, model: torch.nn.Module, tokenizer, seed: int) -> list[dict[str, torch.Tensor]]:
    """Some training texts, one a batch."""
    encoded = batching.encode(task, "train", tokenizer, batching.length_limit(model, tokenizer))
    rows = random.Random(seed).sample(range(len(encoded.inputs)), min(MEASURED, len(encoded.inputs)))
    return [batching.collate(encoded, [row], tokenizer.pad_token_id) for row in rows]


def allocation(method: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How AdaLoRA's rank falls while it trains, for `methods.RankAllocator`; nothing for other methods.

    From r triplets a matrix to two thirds of them on average, 12 to 8 with the defaults: all of them for a tenth of the
    steps, what shall be left for the last three tenths. It is part of a run's settings: with another schedule, tuning
    and final runs are done again.
    """
    if method != "AdaLoRA":
        return {}
    rank = methods.make(method, **(options or {})).rank
    return {"target_rank": max(1, round(2 * rank / 3)), "warmup": 0.1, "final": 0.3, "every": 10}


def fit(model: torch.nn.Module, tokenizer, task: Task, settings: Settings) -> training.Run:
    """`training.fit`; AdaLoRA's rank is allocated on the way, see `allocation`.

    For AdaLoRA with `keep_best=False`, as all runs here: the best weights on dev may be from before its rank fell.
    """
    method = model.adaptation.method if hasattr(model, "adaptation") else None
    if not isinstance(method, methods.AdaLoRA):
        return training.fit(model, tokenizer, task, settings)
    limit = batching.length_limit(model, tokenizer)
    examples = len(batching.encode(task, "train", tokenizer, limit, batching.in_one_row(model)).inputs)
    steps = math.ceil(examples / settings.batch_size) * settings.epochs
    allocator = methods.RankAllocator(model, steps=steps, **allocation("AdaLoRA", method.settings()))
    try:
        return training.fit(model, tokenizer, task, settings, callbacks=[allocator])
    finally:
        allocator.close()


def tuning_task(task: Task, seed: int = 0, fold: int = 0) -> Task:
    """The task with its train split in two: four fifths to learn from, and as dev the rest, one fifth a fold."""
    train = task.splits["train"]
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    cut = len(order) // HELD_OUT
    held_out = order[fold * cut : (fold + 1) * cut]
    parts = {
        "train": train.select(sorted(set(order) - set(held_out))),
        "dev": train.select(sorted(held_out)),
    }
    return replace(task, splits=type(task.splits)(task.splits | parts))


def tune(
    task: Task,
    backbone: str,
    method: str,
    rates: Sequence[float],
    settings: Settings,
    folder: Path,
    options: Mapping[str, Any] | None = None,
    folds: int = 1,
) -> list[dict]:
    """One run a learning rate and fold on `tuning_task(task)`; the rows {"learning_rate", "score", "loss"}, means.

    The first fold has the settings' seed, each further one the next.

    The held-out score is the last epoch's, since the final runs also end with their last epoch. Runs that are on the
    disk are not done again.

    Raises:
        ValueError: more folds than there are, or none.
    """
    if not 1 <= folds <= HELD_OUT:
        raise ValueError(f"folds must be 1 to {HELD_OUT}; got {folds}")
    rows = []
    for rate in rates:
        chosen = replace(settings, learning_rate=rate, keep_best=False)
        runs = [replace(chosen, seed=chosen.seed + fold) for fold in range(folds)]  # what collapses now and then shows
        parts = [_held_out(task, backbone, method, one, folder, options, fold) for fold, one in enumerate(runs)]
        losses = [part["loss"] for part in parts]
        rows.append(
            {
                "learning_rate": rate,
                "score": sum(part["score"] for part in parts) / folds,
                "loss": None if None in losses else sum(losses) / folds,
            }
            | ({"folds": [part["score"] for part in parts]} if folds > 1 else {})
            | ({"diverged": next(part["diverged"] for part in parts if "diverged" in part)} if None in losses else {})
        )
    return rows


def _held_out(
    task: Task,
    backbone: str,
    method: str,
    chosen: Settings,
    folder: Path,
    options: Mapping[str, Any] | None,
    fold: int,
) -> dict[str, Any]:
    """Score and loss on one held-out fifth, from disk where known."""
    known_by = [task.name, len(task.splits["train"]), backbone, label(method, options), asdict(chosen)]
    known_by += [part for part in (fold, allocation(method, options)) if part]
    path = folder / "tuning" / f"{_digest(*known_by)}.rate"  # JSON, but no record
    if not path.is_file():
        cut = tuning_task(task, fold=fold)
        model, tokenizer = prepare(backbone, cut, method, options, chosen.seed)
        try:
            done = fit(model, tokenizer, cut, chosen)
            last = done.rows("dev")[-1]
            row = {"learning_rate": chosen.learning_rate, "score": last[done.metric], "loss": last["loss"]}
        except FloatingPointError as error:  # a rate that diverges is a result too
            row = {"learning_rate": chosen.learning_rate, "score": -1.0, "loss": None, "diverged": str(error)}
        storage.write_json(path, row)
    return json.loads(path.read_text("utf-8"))


def next_rate(tuned: Sequence[dict]) -> float | None:
    """The rate beyond the best one on the ladder 1, 3, 10, 30 …, where that is the highest or lowest tried; else None.

    >>> low = {"learning_rate": 1e-3, "score": 0.5, "loss": 1.0}
    >>> high = {"learning_rate": 3e-3, "score": 0.7, "loss": 1.0}
    >>> next_rate([low, high])
    0.01
    """
    rates, best = sorted(row["learning_rate"] for row in tuned), best_rate(tuned)["learning_rate"]
    if len(rates) < 2 or best not in (rates[0], rates[-1]):
        return None
    ladder = [float(f"{digit}e{power}") for power in range(-9, 3) for digit in (1, 3)]
    if best == rates[-1]:
        return next((rate for rate in ladder if rate > 1.5 * best), None)
    return next((rate for rate in reversed(ladder) if rate < best / 1.5), None)


def best_rate(tuned: Sequence[dict]) -> dict:
    """The row with the best held-out score; of equals, which are common on few items, the one with the lower loss."""
    return max(tuned, key=lambda row: (row["score"], -float("inf") if row["loss"] is None else -row["loss"]))


def run(
    task_name: str,
    backbone: str,
    method: str,
    labels: int | None,
    rates: Sequence[float],
    seeds: Sequence[int],
    settings: Settings,
    folder: Path,
    command: str = "",
    options: Mapping[str, Any] | None = None,
    folds: int = 1,
    tune_on: int | None = None,
    widen: int = 0,
) -> list[records.Record]:
    """Tune, train once a seed on all the labels, predict the test split, save a record each.

    Args:
        labels: how many training examples may be used (None: all); seed s draws its own subset.
        rates: learning rates to try; tuning happens once, on the first seed's subset.
        settings: everything but learning rate and seed.
        options: the method's settings.
        folds: fifths of the labels that each judge a rate.
        tune_on: labels that tune the rate, of those that may be used (None: all of them).
        widen: how many further rates may be tried, one after the other, while the best is the highest or lowest.

    Raises:
        ValueError: unknown method or setting, no rate, more labels to tune on than there are, a negative `widen`.
    """
    called = label(method, options)
    if not rates:
        raise ValueError("at least one learning rate is needed; got none")
    whole, made = tasks.load(task_name), []
    if widen < 0:
        raise ValueError(f"widen must not be negative; got {widen}")
    there = min(labels or len(whole.splits["train"]), len(whole.splits["train"]))
    if tune_on is not None and tune_on > there:
        raise ValueError(f"tune_on must be at most the {there} labels; got {tune_on}")
    cut = _subset(whole, tune_on or labels, seeds[0])  # the smaller subset of a seed is part of the larger
    tuned = tune(cut, backbone, method, rates, settings, folder, options, folds)
    for _ in range(widen):
        if (further := next_rate(tuned)) is None:
            break
        tuned += tune(cut, backbone, method, [further], settings, folder, options, folds)
    best = best_rate(tuned)
    how = {"tuned_rates": tuned} | ({"tuned_on": tune_on} if tune_on else {})
    falls = allocation(method, options)
    for seed in seeds:
        task = _subset(whole, labels, seed)
        chosen = replace(settings, learning_rate=best["learning_rate"], seed=seed, keep_best=False)
        count = len(task.splits["train"])
        name = f"{task.name}-{count}-{backbone}-{_plain(called)}-{seed}".replace("/", "--")
        known = {record.id: record for record in records.load(folder)} if folder.is_dir() else {}
        had = known.get(name)
        same = had is not None and all(had.settings[key] == getattr(chosen, key) for key in RUN_BY)
        if same and had.settings.get("allocation", {}) == falls:
            if had.settings["tuned_rates"] != tuned:  # the same run, found among more rates
                kept = {key: value for key, value in had.settings.items() if key != "tuned_on"}
                known[name] = replace(had, settings=kept | how, command=command or had.command)
                records.save(known[name], folder, replace=True)
        else:
            model, tokenizer = prepare(backbone, task, method, options, seed)
            done = fit(model, tokenizer, task, chosen)
            more = (
                how | ({"method_settings": dict(options)} if options else {}) | ({"allocation": falls} if falls else {})
            )
            more |= {"costs": costs(model, tokenizer, whole, chosen.batch_size)}  # now that nothing depends on it
            if task.kind == "generation":
                result, scores = _judge_writing(model, tokenizer, task)
                more |= scores
            else:
                result = training.evaluate(model, tokenizer, task, "test")
            record = to_record(name, done, result, called, more, command, model)
            records.save(record, folder, replace=True)
            known[name] = record
        made.append(known[name])
    return made


def counted(model: torch.nn.Module) -> dict[str, int]:
    """What training changes in a model, and what it leaves to keep.

    Returns:
        changed: of the *pretrained* numbers, how many are others once the method is merged, where it can be merged: all
            entries of a matrix that LoRA changes, none for an adapter. The new head was not pretrained, so it is not
            among them, as in lesson 11.
        stored: numbers in the task's checkpoint, head included.
    """
    if not hasattr(model, "adaptation"):  # no method: what is trained is the network itself, and a head
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        head = [p for site in surgery.task_head(backbones.anatomy(model)) for p in site.module.parameters()]
        return {"changed": trained - sum(p.numel() for p in head if p.requires_grad), "stored": trained}
    method, anatomy = model.adaptation.method, model.adaptation.anatomy
    stored = sum(tensor.numel() for tensor in method.stored(model).values())
    return {"changed": calculator.changed_weights(method, anatomy), "stored": stored}


def costs(model: torch.nn.Module, tokenizer, task: Task, batch_size: int) -> dict[str, Any]:
    """What a training step costs on any machine, and the size of the task's file; see `measured_costs`.

    The step is of the first `batch_size` training texts of the task: the same ones for every method, seed and number of
    labels. It is computed in float32 and without a fused kernel for attention, whose operations PyTorch does not count.
    The model and the random state are left as they are.

    Args:
        model: as it is trained: a method in it, or none.

    Returns:
        file_bytes: of a safetensors file with what is stored, head included.
        step_flops: floating-point operations of forward and backward pass.
        activation_bytes: what autograd keeps in between.
        batch: [B, T], padding included; for an encoder-decoder T is the source's. A prompt comes on top.
    """
    train = task.splits["train"]
    first = {"train": train.select(range(min(batch_size, len(train))))}
    limit = batching.length_limit(model, tokenizer)
    encoded = batching.encode(
        replace(task, splits=type(task.splits)(first)), "train", tokenizer, limit, batching.in_one_row(model)
    )
    rows = range(min(batch_size, len(encoded.inputs)))
    device = next(model.parameters()).device
    batch = {key: part.to(device) for key, part in batching.collate(encoded, rows, tokenizer.pad_token_id).items()}
    labels, size = batch.pop("labels"), list(batch["input_ids"].shape)
    if task.kind == "generation":
        batch["use_cache"] = False  # as in training
        if not batching.in_one_row(model):
            batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=labels)
    if hasattr(model, "adaptation"):
        stored = model.adaptation.method.stored(model)
    else:
        stored = {name: p for name, p in model.named_parameters() if p.requires_grad}
    was_training = model.training
    with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH):
        model.train()
        try:
            step = measured_costs.step_cost(
                lambda: training.loss_sum(model(**batch).logits, labels, task.kind) / len(labels), model
            )
        finally:
            model.train(was_training)
    return {
        "file_bytes": accounting.stored_bytes(stored),
        "step_flops": step.operations,
        "activation_bytes": step.activations,
        "batch": size,
    }


def _judge_writing(model, tokenizer, task: Task) -> tuple[training.Evaluation, dict[str, Any]]:
    """What the model writes for test, judged; with the slot errors as predictions, where there are slots."""
    written = generation.evaluate(model, tokenizer, task, "test")
    errors = written.slot_errors or [len(text.split()) for text in written.texts]
    result = training.Evaluation(task.metric, written.bleu, 0.0, errors, [0] * len(errors))
    return result, {
        "scores": written.scores(),
        "texts": written.texts[:SHOWN],
        "predictions_are": "slot errors" if written.slot_errors else "words",
    }


def to_record(
    name: str,
    done: training.Run,
    result: training.Evaluation,
    method: str,
    more: dict[str, Any],
    command: str = "",
    model: torch.nn.Module | None = None,
) -> records.Record:
    """A finished run and its predictions on test as a record.

    Args:
        model: what was trained, for the numbers that are changed and stored; see `counted`. Without it they are told to
            be as many as are trained.
    """
    settings = {key: value for key, value in asdict(done.settings).items() if key not in ("seed", "progress")} | more
    peak, meter = done.peak_memory
    dev = [{k: row[k] for k in ("step", "loss", done.metric)} for row in done.rows("dev")]
    return records.Record(
        id=name,
        task=done.task,
        split="test",
        labels=done.labels,
        backbone=done.backbone,
        backbone_sha256=backbones.weights_hash(done.backbone),
        method=method,
        settings=settings | {"memory_meter": meter},
        seed=done.settings.seed,
        metric=result.metric,
        score=result.score,
        predictions=list(result.predictions),
        parameters={"trained": done.trainable, "total": done.total}
        | (dict.fromkeys(("changed", "stored"), done.trainable) if model is None else counted(model)),
        seconds=done.seconds,
        peak_memory_mb=None if peak is None else peak / 1e6,
        history=dev,
        command=command,
        **records.environment(),
    )


def baseline_record(
    name: str, task: Task, found: baselines.Baseline, backbone: str, method: str, seed: int, command: str = ""
):
    """A bag of words or linear probe as a record; no network is trained, so all counts of parameters are 0."""
    return records.Record(
        id=name,
        task=task.name,
        split=found.split,
        labels=found.labels,
        backbone=backbone,
        backbone_sha256=backbones.weights_hash(backbone),
        method=method,
        settings=found.settings,
        seed=seed,
        metric=found.metric,
        score=found.score,
        predictions=list(found.predictions),
        parameters=dict.fromkeys(records.PARAMETERS, 0),
        seconds=0.0,
        peak_memory_mb=None,
        command=command,
        **records.environment("cpu"),
    )


def _setting(text: str) -> tuple[str, Any]:
    """`bottleneck=16` as ("bottleneck", 16): the value is read as JSON, and is text if it is none."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"a setting is KEY=VALUE; got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _plain(text: str) -> str:
    """Only what a file's name may hold: `Houlsby(bottleneck=16)` is `Houlsby-bottleneck-16`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def _subset(task: Task, labels: int | None, seed: int) -> Task:
    return task if labels is None or labels >= len(task.splits["train"]) else task.subset(labels, seed)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m peft_helpers.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True)
    parser.add_argument("--backbone", required=True)
    choices = [*METHODS, *methods.available(), "bag of words", "linear probe"]
    parser.add_argument("--method", required=True, choices=choices, metavar="METHOD", help=", ".join(choices))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="the method's settings")
    parser.add_argument("--labels", type=int, help="training examples to use; all by default")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-5, 1e-4, 3e-4])
    parser.add_argument("--folds", type=int, default=1, help=f"fifths that judge each rate, 1 to {HELD_OUT}")
    parser.add_argument("--tune-on", type=int, help="labels that tune the rate; all of them by default")
    parser.add_argument("--widen", type=int, default=0, help="further rates while the best is the highest or lowest")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, default=records.own_folder())
    given = parser.parse_args(arguments)
    command = "python -m peft_helpers.experiments " + shlex.join(_without_out(arguments))
    if given.method not in ("bag of words", "linear probe"):
        settings = Settings(given.rates[0], epochs=given.epochs, batch_size=given.batch, precision=given.precision)
        made = run(
            given.task,
            given.backbone,
            given.method,
            given.labels,
            given.rates,
            given.seeds,
            settings,
            given.out,
            command,
            dict(map(_setting, given.set)),
            given.folds,
            given.tune_on,
            given.widen,
        )
    else:
        made = [_baseline(given, seed, command) for seed in given.seeds]
    print(records.table(made))


def _baseline(given: argparse.Namespace, seed: int, command: str) -> records.Record:
    task = tasks.load(given.task)
    if given.method == "bag of words":
        found, backbone = baselines.bag_of_words(task, given.labels, seed), "none"
    else:
        found, backbone = baselines.linear_probe(given.backbone, task, given.labels, seed), given.backbone
    name = f"{task.name}-{found.labels}-{backbone}-{given.method.replace(' ', '-')}-{seed}".replace("/", "--")
    record = baseline_record(name, task, found, backbone, given.method, seed, command)
    records.save(record, given.out, replace=True)
    return record


def _without_out(arguments: Sequence[str] | None) -> list[str]:
    """The command line without where the results went, which is nobody else's business."""
    import sys

    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--out" in words:
        at = words.index("--out")
        del words[at : at + 2]
    return words


if __name__ == "__main__":
    main()
