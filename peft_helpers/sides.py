"""The two sides of a transfer: domains of the pocket tasks, or languages of XNLI, each with labels and plain texts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from peft_helpers import hub, tasks
from peft_helpers.tasks import Task

PLACES = ("hotel", "train", "clinic", "school", "neighborhood", "museum", "office", "garden", "car", "food")
PASTIMES = ("film", "book", "music", "theater", "game", "software", "phone", "tool", "clothes", "sport")
HALVES = {"places": PLACES, "pastimes": PASTIMES}
WITH_DOMAINS = ("sentiment", "acceptability", "paraphrase", "similarity")  # pocket tasks whose items name a domain
XNLI = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Side:
    """One of the two sides of a transfer: a domain or a language.

    Attributes:
        name: "places", "sw".
        task: the labeled task on this side.
        texts: unlabeled texts of this side; none of the task's test split.
    """

    name: str
    task: Task
    texts: tuple[str, ...] = field(repr=False)


# ---------------------------------------------------------------- sides


def domain_sides(task: Task | None = None) -> dict[str, Side]:
    """The pocket sentiment task in two halves of ten domains each, "places" and "pastimes".

    The unlabeled texts of a half are the train sentences of every pocket task that names its items' domains.

    Args:
        task: the sentiment task, if it is loaded already.
    """
    task = task or tasks.load("sentiment")
    sides = {}
    for name, domains in HALVES.items():
        splits = {}
        for split, rows in task.splits.items():
            labeled = _pocket_rows("sentiment", split)
            splits[split] = rows.select([i for i, row in enumerate(labeled) if row["domain"] in domains])
        half = replace(task, name=f"{task.name}-{name}", splits=type(task.splits)(splits))
        found = {
            row[column]: None
            for source in WITH_DOMAINS
            for row in _pocket_rows(source, "train")
            if row.get("domain") in domains
            for column in tasks.REGISTRY[source].text_columns
        }
        sides[name] = Side(name, half, tuple(found))
    return sides


def _pocket_rows(name: str, split: str) -> list[dict]:
    lines = (tasks.POCKET / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def language_side(language: str, labels: int = 4000, texts: int = 20_000) -> Side:
    """XNLI in one language, from the Hub: the same pairs of sentences in fifteen languages (arXiv:1809.05053).

    For the full profile, with a multilingual backbone. A side that only lends its texts needs no labels of its own.

    Args:
        language: "en", "sw", "zh" …
        labels: training pairs to keep.
        texts: unlabeled sentences, from further training pairs than the labeled ones.

    Raises:
        ConnectionError: the Hub can't be reached.
    """
    import datasets

    try:
        hub.check_reachable("facebook/xnli", "dataset")
        loaded = datasets.load_dataset("facebook/xnli", language)
    except Exception as error:
        raise hub.explain(error, "task", f"xnli-{language}", "PEFT_DATA", tasks.available()) from error
    train, columns = loaded["train"], ("premise", "hypothesis")
    splits = {
        "train": train.select(range(min(labels, len(train)))),
        "dev": loaded["validation"],
        "test": loaded["test"],
    }
    task = Task(f"xnli-{language}", "classification", "accuracy", columns, XNLI, type(loaded)(splits), "Hub, XNLI")
    further = train.select(range(min(labels, len(train)), min(labels + texts, len(train))))
    return Side(language, task, tuple(dict.fromkeys(further["premise"])))
