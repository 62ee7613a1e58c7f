"""What `training.fit` costs over a plain loop: pocket-bert, batch 32, same batches, in alternating runs.

python tests/benchmarks/fit_overhead.py [--rounds 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from pathlib import Path

import torch

from peft_helpers import backbones, records, storage, tasks, training


def plain_loop(model, tokenizer, task, chosen: training.Settings) -> float:
    """Seconds of the loop that a textbook writes, without evaluation."""
    data = training.encode(task, "train", tokenizer, 128)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": chosen.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=chosen.learning_rate)
    steps = chosen.epochs * math.ceil(len(data.inputs) / chosen.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: training.rate_factor(s, steps, chosen.warmup))
    torch.manual_seed(chosen.seed)
    model.train()
    started = time.perf_counter()
    for epoch in range(chosen.epochs):
        for rows in training.batches(data.lengths, chosen.batch_size, chosen.seed, epoch):
            batch = training.collate(data, rows, tokenizer.pad_token_id)
            labels = batch.pop("labels")
            loss = torch.nn.functional.cross_entropy(model(**batch).logits, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), chosen.clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            loss.item()
    return time.perf_counter() - started


def fit_loop(model, tokenizer, task, chosen: training.Settings) -> float:
    """Seconds between fit's first and last training step: the evaluations lie outside."""
    rows = training.fit(model, tokenizer, task, chosen).rows("train")
    first = rows[0]["seconds"] - statistics.median(b["seconds"] - a["seconds"] for a, b in itertools.pairwise(rows))
    return rows[-1]["seconds"] - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    task = tasks.load("sentiment", labels=640)
    chosen = training.Settings(3e-4, epochs=1, batch_size=32, keep_best=False, precision="fp32", progress=False)
    seconds = {"plain loop": [], "fit": []}
    for _ in range(given.rounds):
        for name, loop in (("plain loop", plain_loop), ("fit", fit_loop)):
            model, tokenizer = backbones.load("pocket-bert", task)
            seconds[name].append(loop(model, tokenizer, task, chosen))
    steps = 640 // 32
    plain, ours = (statistics.median(seconds[name]) for name in seconds)
    result = {
        "what": "seconds of 20 steps, pocket-bert, batch 32, fp32, medians of alternating runs",
        "seconds": {name: [round(s, 3) for s in values] for name, values in seconds.items()},
        "ratio": round(ours / plain, 4),
        "overhead_ms_per_step": round(1000 * (ours - plain) / steps, 3),
        **records.environment(),
    }
    print(result)
    if given.out:
        storage.write_json(given.out, result)


if __name__ == "__main__":
    main()
