"""Changing texts: preprocessing every text alike, and augmentation, which adds changed copies to train.

The small random edits are two of the four in Wei and Zou 2019 (EDA, arXiv:1901.11196): deletion and swap.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft_helpers.tasks import Task

WORDS = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and punctuation marks, in order.

    >>> words("Isn't bad!")
    ["Isn't", 'bad', '!']
    """
    return WORDS.findall(text)


def delete_words(text: str, share: float, generator: random.Random) -> str:
    """Each word goes with probability `share`; if all would go, one stays.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    require_share(share)
    found = words(text)
    kept = [word for word in found if generator.random() >= share]
    return " ".join(kept or [generator.choice(found)]) if found else text


def swap_words(text: str, swaps: int, generator: random.Random) -> str:
    """Two words, drawn at random, change places; so often."""
    found = words(text)
    for _ in range(swaps if len(found) > 1 else 0):
        i, j = generator.sample(range(len(found)), 2)
        found[i], found[j] = found[j], found[i]
    return " ".join(found)


def rewrite(task: Task, change: Callable[[str], str], splits: Sequence[str] = ("train", "dev", "test")) -> Task:
    """The task with every text of these splits changed: preprocessing.

    Raises:
        ValueError: a split that the task has not.
    """
    if unknown := [split for split in splits if split not in task.splits]:
        raise ValueError(f"{task.name} has no split {', '.join(unknown)}; it has {', '.join(task.splits)}")
    made = {}
    for split in splits:
        rows = task.splits[split]
        columns = {column: list(rows[column]) for column in rows.column_names}
        columns |= {column: [change(text) for text in columns[column]] for column in task.text_columns}
        made[split] = type(rows).from_dict(columns)
    return replace(task, splits=type(task.splits)(task.splits | made))


def augment(task: Task, change: Callable[[str], str], copies: int = 1) -> Task:
    """The task with `copies` changed copies of every training text behind the originals; dev and test stay as they are.

    A copy keeps its label: whether the changed text still deserves it is for you to look at.

    Raises:
        ValueError: fewer than one copy.
    """
    if copies < 1:
        raise ValueError(f"augmentation adds at least one copy of each text; got {copies}")
    train = task.splits["train"]
    columns = {column: list(train[column]) * (copies + 1) for column in train.column_names}
    for column in task.text_columns:
        first = columns[column][: len(train)]
        columns[column] = first + [change(text) for text in columns[column][len(train) :]]
    made = {"train": type(train).from_dict(columns)}
    return replace(task, splits=type(task.splits)(task.splits | made))


def require_share(share: float) -> None:
    """Refuse what is no share.

    Raises:
        ValueError: outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of deleted words is 0 to 1; got {share}")
