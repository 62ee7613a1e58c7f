"""Seeded grammars that make part of the pocket training sets."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_helpers import storage


def write_train(
    folder: Path, generate: Callable[[int, int], list[dict[str, Any]]], count: int, seed: int
) -> list[dict]:
    """Rewrite `train.jsonl`: the written rows of `train_written.jsonl` and the generated ones, shuffled.

    Args:
        folder: where `train_written.jsonl` lies.
        generate: (count, seed) -> rows.
        count: how many to generate.
        seed: of the generation and of the order.

    Returns:
        The rows of `train.jsonl`.
    """
    lines = (folder / "train_written.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines] + generate(count, seed)
    random.Random(seed).shuffle(rows)
    storage.write_text(folder / "train.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows
