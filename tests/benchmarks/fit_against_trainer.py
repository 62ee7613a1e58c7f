"""`training.fit` against transformers' Trainer, and what the frozen trunk's cache saves.

Same model, data, batch size, precision, rates and number of steps; the Trainer once with its default sampling and once
with `train_sampling_strategy="group_by_length"`. Both read tokenized texts from a list in memory. Every run has a
process of its own (a process's peak memory can't be reset), the ways alternate, round r has seed r in every way.

python tests/benchmarks/fit_against_trainer.py [--backbone pocket-bert] [--labels 1280] [--rounds 5] [--out FILE]
python tests/benchmarks/fit_against_trainer.py --backbone bert-base-random --precision bf16 --peak-tflops 989
python tests/benchmarks/fit_against_trainer.py --part frozen --epochs 4
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from peft_helpers import accounting, backbones, records, storage, tasks, training
from peft_helpers.profiles import default_device

WAYS = {
    "trainer": ("fit", "Trainer", "Trainer, grouped"),
    "frozen": tuple(f"{trained}, {how}" for trained in ("head", "last layer") for how in ("computed", "cached")),
}
LOOKED_AT = 16  # dev texts while fit trains: its evaluations count as training time, and the Trainer makes none


def load(name: str, task: tasks.Task, seed: int):
    """A backbone of the course, or BERT-base's shape with random weights and pocket-bert's tokenizer."""
    if name != "bert-base-random":
        return backbones.load(name, task, seed=seed)
    from transformers import BertConfig, BertForSequenceClassification

    _, tokenizer = backbones.load("pocket-bert", task)
    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(num_labels=task.outputs)), tokenizer


def settings(given: argparse.Namespace, **more) -> training.Settings:
    chosen = {"epochs": given.epochs, "batch_size": given.batch, "seed": given.seed, "precision": given.precision}
    return training.Settings(given.rate, keep_best=False, progress=False, **chosen, **more)


def warm_up(model, tokenizer, task: tasks.Task) -> None:
    """One forward and backward pass, so that nobody's first step pays for loading kernels."""
    device = default_device()
    data = training.encode(task, "train", tokenizer, training.length_limit(model, tokenizer))
    batch = training.collate(data, range(8), tokenizer.pad_token_id)
    del batch["labels"]
    model.to(device)(**{key: value.to(device) for key, value in batch.items()}).logits.sum().backward()
    model.zero_grad(set_to_none=True)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def by_fit(model, tokenizer, task: tasks.Task, given: argparse.Namespace) -> float:
    """Seconds from the look before the first step to the one after the last."""
    looks = training.fit(model, tokenizer, task.short_dev(LOOKED_AT), settings(given)).rows("dev")
    return looks[-1]["seconds"] - looks[0]["seconds"]


def by_trainer(model, tokenizer, task: tasks.Task, given: argparse.Namespace, grouped: bool) -> float:
    """Seconds between the Trainer's events on_train_begin and on_train_end."""
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_train_end(self, *_, **__):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self.start

    def loss(outputs, labels, num_items_in_batch=None):
        return training.loss_sum(outputs.logits, labels, task.kind) / len(labels)

    data = training.encode(task, "train", tokenizer, training.length_limit(model, tokenizer))
    rows = [{**row, "labels": label} for row, label in zip(data.inputs, data.labels, strict=True)]
    chosen, clock = settings(given), Clock()
    half = training.half_precision(chosen.precision)
    steps = chosen.epochs * math.ceil(len(rows) / chosen.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=chosen.epochs,
            per_device_train_batch_size=chosen.batch_size,
            learning_rate=chosen.learning_rate,
            warmup_steps=round(chosen.warmup * steps),
            weight_decay=chosen.weight_decay,
            max_grad_norm=chosen.clip,
            bf16=half is torch.bfloat16,
            fp16=half is torch.float16,
            seed=chosen.seed,
            use_cpu=default_device() == "cpu",
            train_sampling_strategy="group_by_length" if grouped else "random",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            label_names=["labels"],
        )
        Trainer(
            model,
            arguments,
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=rows,
            processing_class=tokenizer,
            compute_loss_func=loss,
            callbacks=[clock],
        ).train()
    return clock.seconds


def flops(model, lengths) -> float:
    """Multiplications and additions of one epoch, forward and backward, over real tokens: what MFU divides by.

    Per text of T tokens 6·P·T for the layers' P matrix entries, and 12·L·D·T² for the attention maps.
    """
    anatomy = backbones.anatomy(model)
    stack = next(iter(backbones.ARCHITECTURES[anatomy.architecture].stacks.values()))
    matrices = sum(p.numel() for p in model.base_model.get_submodule(stack.layers).parameters() if p.ndim == 2)
    return float(sum(6 * matrices * t + 12 * len(anatomy.layers) * anatomy.width * t * t for t in map(int, lengths)))


def child_trainer(given: argparse.Namespace) -> dict:
    task = tasks.load(given.task, given.labels)
    model, tokenizer = load(given.backbone, task, given.seed)
    warm_up(model, tokenizer, task)
    before = accounting.peak_memory()
    if given.way == "fit":
        seconds = by_fit(model, tokenizer, task, given)
    else:
        seconds = by_trainer(model, tokenizer, task, given, grouped="grouped" in given.way)
    peak = accounting.peak_memory()
    result = training.evaluate(model, tokenizer, task, "dev")
    lengths = training.encode(task, "train", tokenizer, training.length_limit(model, tokenizer)).lengths
    texts = len(task.splits["train"]) * given.epochs
    return {
        "samples_per_second": texts / seconds,
        "tflops": given.epochs * flops(model, lengths) / seconds / 1e12,
        "peak_mb": peak.megabytes,
        "before_mb": before.megabytes,
        "meter": peak.meter,
        "score": result.score,
        "loss": result.loss,
    }


def child_frozen(given: argparse.Namespace) -> dict:
    """Median seconds of an epoch from the second on, with the layers below the trained ones computed or cached."""
    task = tasks.load(given.task, given.labels)
    model, tokenizer = load(given.backbone, task, given.seed)
    anatomy = backbones.anatomy(model.requires_grad_(False))
    for site in anatomy.head:
        site.module.requires_grad_(True)
    if "last layer" in given.way:
        for site in [*anatomy.layers[-1].sites.values(), *anatomy.layers[-1].norms]:
            site.module.requires_grad_(True)
    warm_up(model, tokenizer, task)
    run = training.fit(model, tokenizer, task.short_dev(LOOKED_AT), settings(given, cache_frozen="cached" in given.way))
    looks = [row["seconds"] for row in run.rows("dev")]
    epochs = [end - start for start, end in itertools.pairwise(looks[1:])]
    result = training.evaluate(model, tokenizer, task, "dev")
    return {
        "epoch_seconds": statistics.median(epochs),
        "layers": len(anatomy.layers),
        "score": result.score,
        "loss": result.loss,
    }


def measure(given: argparse.Namespace, words: list[str]) -> dict[str, list[dict]]:
    """Every way once a round, in turn; each run in a process of its own."""
    results: dict[str, list[dict]] = {way: [] for way in WAYS[given.part]}
    for seed in range(given.rounds):
        for way in results:
            command = [sys.executable, __file__, *words, "--way", way, "--seed", str(seed)]
            told = subprocess.run(command, capture_output=True, text=True)
            if told.returncode:
                raise RuntimeError(f"{way}, round {seed}, failed:\n{told.stderr[-4000:]}")
            results[way].append(json.loads(told.stdout.splitlines()[-1]))
            print(f"round {seed}, {way}: {results[way][-1]}", flush=True)
    return results


def summary(given: argparse.Namespace, results: dict[str, list[dict]]) -> dict:
    numbers = {key for key, value in next(iter(results.values()))[0].items() if isinstance(value, (int, float))}
    median = {
        way: {key: statistics.median(run[key] for run in runs) for key in sorted(numbers)}
        for way, runs in results.items()
    }
    spread = {way: statistics.pstdev(run["score"] for run in runs) for way, runs in results.items()}
    about = {
        key: getattr(given, key) for key in ("backbone", "task", "labels", "epochs", "batch", "precision", "rounds")
    }
    made = about | {"medians": median, "score_spread_over_seeds": spread, "runs": results}
    if given.part == "frozen":
        layers = median["head, cached"]["layers"]
        made["speed_up"] = {
            trained: median[f"{trained}, computed"]["epoch_seconds"] / median[f"{trained}, cached"]["epoch_seconds"]
            for trained in ("head", "last layer")
        }
        return made | {"asked": {"head": 5, "last layer": 0.9 * (layers + 2) / 3}}
    ours, others = median["fit"], WAYS["trainer"][1:]
    for name, key in (("speed", "samples_per_second"), ("memory", "peak_mb")):
        made[f"{name}_ratio"] = {way: ours[key] / median[way][key] for way in others if key in numbers}
    made["asked"] = {"speed_ratio": dict(zip(others, (1.2, 0.97), strict=True)), "memory_ratio": 1.03}
    made["meter"] = results["fit"][0]["meter"]
    if given.peak_tflops:
        made["mfu"] = {way: values["tflops"] / given.peak_tflops for way, values in median.items()}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=WAYS, default="trainer")
    parser.add_argument("--backbone", default="pocket-bert", help="any of the course's, or bert-base-random")
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--labels", type=int, default=1280)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--precision", choices=training.PRECISIONS, default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, help="the device's peak in this precision, for MFU")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "frozen" and given.epochs < 2:
        parser.error(f"the cache is timed from the second epoch on: --epochs must be 2 or more; got {given.epochs}")
    if given.way:
        print(json.dumps((child_trainer if given.part == "trainer" else child_frozen)(given)))
        return
    made = summary(given, measure(given, sys.argv[1:])) | records.environment()
    print(json.dumps({key: value for key, value in made.items() if key != "runs"}, indent=1))
    if given.out:
        storage.write_json(given.out, made)


if __name__ == "__main__":
    main()
