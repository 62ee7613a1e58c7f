"""The task registry: `load("sentiment")` gives splits, columns, labels and metric, wherever the data comes from.

Six pocket tasks ship with the package. Hub tasks are read with `datasets`; a local copy in `$PEFT_DATA/<name>/` with
train, validation (or dev) and test files (.jsonl, .csv, .tsv) takes precedence. Any folder of such files is a task too.

Where a public test set has no labels (GLUE), its validation set is our test set, and our dev set is cut off train.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_helpers import hub, meaning

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

POCKET = Path(__file__).parent / "pocket" / "data"
SPLITS = ("train", "dev", "test")
DEV_SHARE = 0.1  # of train, where a source has no dev set to spare


@dataclass(frozen=True)
class Source:
    """One row of the registry: what a task is and where it comes from.

    Attributes:
        kind: "classification", "regression" or "generation".
        metric: "accuracy", "f1", "matthews" or "spearman"; "bleu" for generation.
        text_columns: one name, or two for sentence pairs.
        labels: the classes' names in the order of their numbers; empty for regression.
        label_column: the column that holds the label (for generation: a list of reference texts).
        hub: (dataset, configuration) on the Hub, or None for a pocket task.
        hub_splits: our split's name -> the Hub's. A missing dev is cut off train.
    """

    kind: str
    metric: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...] = ()
    label_column: str = "label"
    hub: tuple[str, str | None] | None = None
    hub_splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "validation"})


_EQUIVALENT = ("not equivalent", "equivalent")
_ACCEPTABLE = ("unacceptable", "acceptable")
_NEGATIVE = ("negative", "positive")
_PAIR = ("sentence1", "sentence2")
_TOPICS = ("nature", "health", "technology", "food", "travel", "money", "sport", "art")
REGISTRY = {
    "sentiment": Source("classification", "accuracy", ("text",), _NEGATIVE),
    "topic": Source("classification", "accuracy", ("text",), _TOPICS),
    "acceptability": Source("classification", "matthews", ("text",), _ACCEPTABLE),
    "paraphrase": Source("classification", "f1", ("first", "second"), ("different", "paraphrase")),
    "similarity": Source("regression", "spearman", ("first", "second"), label_column="score"),
    "trails": Source("generation", "bleu", ("meaning",), label_column="references"),
    "sst2": Source("classification", "accuracy", ("sentence",), _NEGATIVE, hub=("nyu-mll/glue", "sst2")),
    "cola": Source("classification", "matthews", ("sentence",), _ACCEPTABLE, hub=("nyu-mll/glue", "cola")),
    "mrpc": Source("classification", "f1", _PAIR, _EQUIVALENT, hub=("nyu-mll/glue", "mrpc")),
    "stsb": Source("regression", "spearman", _PAIR, hub=("nyu-mll/glue", "stsb")),
}


@dataclass(frozen=True)
class Task:
    """Labeled text in three splits, with what is needed to learn from it and to judge the result.

    Attributes:
        name: the registered name, or the folder's.
        kind: "classification", "regression" or "generation".
        metric: the task's main metric, a name that `evaluation.score` knows ("bleu": see `generation_metrics`).
        text_columns: columns of text, one or two.
        labels: the classes' names; empty for regression and generation.
        splits: train, dev and test; each has the text columns and "label": a class number, a float, or for
            generation a list of reference texts.
        origin: where the data came from.
    """

    name: str
    kind: str
    metric: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    splits: DatasetDict
    origin: str = ""

    @property
    def outputs(self) -> int:
        """How many numbers the head must give: the number of classes, 1 for regression, 0 for generation (no head)."""
        return 0 if self.kind == "generation" else len(self.labels) or 1

    def subset(self, count: int, seed: int = 0) -> Task:
        """The same task with `count` training examples, drawn so that the classes keep their shares.

        Raises:
            ValueError: if train has fewer examples, or `count` is below the number of classes.
        """
        train = self.splits["train"]
        if not max(1, len(self.labels)) <= count <= len(train):
            least = max(1, len(self.labels))
            raise ValueError(f"a subset of {self.name}'s train takes {least} to {len(train)} examples; got {count}")
        order = list(range(len(train)))
        random.Random(seed).shuffle(order)
        if self.kind == "classification":
            order = _interleave_classes(order, train["label"])
        chosen = sorted(order[:count])
        return replace(self, splits=type(self.splits)(self.splits | {"train": train.select(chosen)}))

    def short_dev(self, rows: int = 20) -> Task:
        """The same task with the first `rows` of its dev split, where dev decides nothing: looking costs time.

        Raises:
            ValueError: if `rows` is below 1.
        """
        if rows < 1:
            raise ValueError(f"a dev split has at least one row; got {rows}")
        dev = self.splits["dev"]
        return replace(self, splits=type(self.splits)(self.splits | {"dev": dev.select(range(min(rows, len(dev))))}))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in self.splits.items())
        what = " / ".join(self.labels) or {"regression": "a score", "generation": "a text"}[self.kind]
        return f"task {self.name}: {' + '.join(self.text_columns)} → {what} · {self.metric} · {sizes} · {self.origin}"


def available() -> list[str]:
    """The names of the registered tasks."""
    return list(REGISTRY)


def load(name: str, labels: int | None = None, seed: int = 0) -> Task:
    """Load a task by its registered name, or from a folder of train / dev / test files.

    Args:
        name: one of `available()`, or a path.
        labels: if given, only so many training examples (see `Task.subset`).
        seed: draws that subset, and the dev set where it must be cut off train.

    Raises:
        ValueError: unknown task, missing column, unknown label, empty split.
        ConnectionError: the data is on the Hub, and the Hub can't be reached.
    """
    folder = hub.local_copy("PEFT_DATA", name) if name not in REGISTRY or REGISTRY[name].hub else POCKET / name
    if folder is not None:
        rows, origin = (
            _read_folder(folder),
            "shipped with the course" if folder.parent == POCKET else f"local copy {folder.name}",
        )
        source = REGISTRY.get(name) or _guess_source(rows["train"], name)
    elif name in REGISTRY:
        source = REGISTRY[name]
        rows, origin = _read_hub(name, source), f"Hub dataset {'/'.join(filter(None, source.hub))}"
    else:
        raise ValueError(
            f"unknown task {name!r}; there are {', '.join(available())}, "
            "or give a folder with train, dev and test files"
        )
    if "dev" not in rows or "test" not in rows:
        rows = _make_missing_splits(rows, seed)
    from datasets import DatasetDict

    splits = DatasetDict({split: _clean(rows[split], source, f"{name}/{split}") for split in SPLITS})
    task = Task(Path(name).name, source.kind, source.metric, source.text_columns, source.labels, splits, origin)
    return task if labels is None else task.subset(labels, seed)


def _interleave_classes(order: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Reorder so that every leading part has the classes in their overall shares (largest deficit goes first)."""
    waiting: dict[int, list[int]] = {}
    for row in order:
        waiting.setdefault(labels[row], []).append(row)
    shares = {label: len(rows) / len(order) for label, rows in waiting.items()}
    taken, result = Counter(), []
    for position in range(1, len(order) + 1):
        label = max(
            (k for k in waiting if taken[k] < len(waiting[k])), key=lambda k: (shares[k] * position - taken[k], -k)
        )
        result.append(waiting[label][taken[label]])
        taken[label] += 1
    return result


def _read_folder(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read train, dev (or validation) and test files; the file's ending says its format."""
    readers = {
        ".jsonl": lambda file: [json.loads(line) for line in file if line.strip()],
        ".csv": lambda file: list(csv.DictReader(file)),
        ".tsv": lambda file: list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)),
    }
    rows = {}
    for split, spellings in {
        "train": ("train",),
        "dev": ("dev",),
        "validation": ("validation",),
        "test": ("test",),
    }.items():
        for path in (folder / (spelling + ending) for spelling in spellings for ending in readers):
            if path.is_file():
                try:
                    with open(path, encoding="utf-8", newline="") as file:
                        rows[split] = readers[path.suffix](file)
                except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
                    raise ValueError(f"{path} can't be read as {path.suffix[1:]}: {error}") from error
    if "train" not in rows:
        raise ValueError(
            f"{folder} has no train file; a task's folder holds train, dev and test as {', '.join(readers)}"
        )
    for split, read in rows.items():
        if read and {"mr", "ref"} <= set(read[0]):  # E2E: one row a reference. One example each in train, else a set
            rows[split] = (
                [{"meaning": meaning.parse_e2e(row["mr"]), "references": [row["ref"]]} for row in read]
                if split == "train"
                else meaning.group_e2e(read)
            )
    if "validation" in rows:  # the Hub's layout: its validation set is our test set
        rows["test"] = rows.pop("validation")
    return rows


def _read_hub(name: str, source: Source) -> dict[str, list[dict[str, Any]]]:
    import datasets

    dataset, configuration = source.hub
    try:
        hub.check_reachable(dataset, "dataset")
        loaded = datasets.load_dataset(dataset, configuration)
    except Exception as error:
        raise hub.explain(error, "task", name, "PEFT_DATA", available()) from error
    return {ours: loaded[theirs].to_list() for ours, theirs in source.hub_splits.items()}


def _make_missing_splits(rows: dict[str, list[dict]], seed: int) -> dict[str, list[dict]]:
    """Where there is only train and one held-out set: that set is for testing, and dev is cut off train."""
    rows = dict(rows)
    if "test" not in rows:
        if "dev" not in rows:
            raise ValueError("a task needs data held out from training: add a test file beside train")
        rows["test"] = rows.pop("dev")
    order = list(range(len(rows["train"])))
    random.Random(seed).shuffle(order)
    cut = round(DEV_SHARE * len(order))
    rows["train"], rows["dev"] = (
        [rows["train"][i] for i in sorted(order[cut:])],
        [rows["train"][i] for i in sorted(order[:cut])],
    )
    return rows


def _guess_source(rows: list[dict[str, Any]], name: str) -> Source:
    """A folder that is not registered: text in `text` or in two columns, and a `label` or `score`.

    Or meaning representations: `meaning` and `references`, or E2E's `mr` and `ref`.
    """
    columns = tuple(rows[0]) if rows else ()
    if {"meaning", "references"} <= set(columns):
        return Source("generation", "bleu", ("meaning",), label_column="references")
    label = next((c for c in ("label", "score") if c in columns), None)
    text = next(
        (
            c
            for c in (("text",), ("sentence",), ("first", "second"), ("sentence1", "sentence2"))
            if set(c) <= set(columns)
        ),
        None,
    )
    if label is None or text is None:
        raise ValueError(
            f"{name} has the columns {', '.join(columns)}; "
            "a task needs text (or sentence, or first and second) and label (or score), or meaning and references"
        )
    if label == "score":
        return Source("regression", "spearman", text, label_column=label)
    return Source(
        "classification", "accuracy", text, tuple(sorted({str(row[label]) for row in rows})), label_column=label
    )


def _clean(rows: list[dict[str, Any]], source: Source, where: str) -> Dataset:
    """Keep the columns that the task needs, with labels as numbers; refuse what can't be learned from."""
    from datasets import Dataset

    if not rows:
        raise ValueError(f"{where} is empty")
    missing = [c for c in (*source.text_columns, source.label_column) if c not in rows[0]]
    if missing:
        raise ValueError(f"{where} has no column {', '.join(missing)}; its columns are {', '.join(rows[0])}")
    read = _references if source.kind == "generation" else _class_number if source.labels else _score
    columns = {c: [_text(row[c]) for row in rows] for c in source.text_columns}
    columns["label"] = [read(row[source.label_column], source, f"{where}, row {i}") for i, row in enumerate(rows)]
    return Dataset.from_dict(columns)


def _text(value: Any) -> str:
    """Text as it is; a meaning representation (slot -> value) as one line."""
    return meaning.linearize(value) if isinstance(value, dict) else str(value)


def _references(value: Any, source: Source, where: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{where}: {source.label_column} must be one or more reference texts; got {value!r}")
    return texts


def _class_number(value: Any, source: Source, where: str) -> int:
    if value in source.labels:
        return source.labels.index(value)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < len(source.labels):
        raise ValueError(
            f"{where}: label {value!r} is none of {', '.join(source.labels)} (or 0 to {len(source.labels) - 1})"
        )
    return number


def _score(value: Any, source: Source, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {source.label_column} must be a finite number; got {value!r}")
    return number
