"""The record of one training run: what was done, on what, with which result. One small JSON file each.

A record holds the predictions too, so that any two records on the same split can be compared item by item
(`statistics`) long after the models are gone.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from peft_helpers import statistics, storage

SHIPPED = Path(__file__).parent / "pocket" / "records"
OWN_SOURCE = "measured by the course"
PARAMETERS = ("trained", "changed", "stored", "total")
GROUP = ("task", "split", "metric", "backbone", "method", "labels")  # what records of several seeds have in common
TEXT = ("id", "task", "split", "backbone", "method", "metric", "device", "created", "source", "command")
KINDS: dict[str, tuple[type, ...]] = (  # the JSON types of each field
    dict.fromkeys(TEXT, (str,))
    | dict.fromkeys(("labels", "seed"), (int,))
    | dict.fromkeys(("score", "seconds"), (float, int))
    | dict.fromkeys(("settings", "parameters", "versions"), (dict,))
    | dict.fromkeys(("predictions", "history"), (list,))
    | {"backbone_sha256": (str, type(None)), "peak_memory_mb": (float, int, type(None))}
)
LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Record:
    """One run and its result.

    Attributes:
        id: names the file `<id>.json`; letters, digits, dots, dashes and underscores.
        task, split: where the predictions were made; metric, score: their result in natural units (accuracy 0.872).
        labels: labeled examples used, those for tuning included.
        backbone, backbone_sha256: the model's name and the hash of its weights' file (None: no file).
        method, settings, seed: what was done with it.
        predictions: one an item of the split, in its order: classes, or scores to four digits.
        parameters: numbers of parameters trained, changed (of the pretrained ones, so without a new head; merged where
            the method can be merged), stored for the task, and total.
        seconds, peak_memory_mb: of the training run (memory None: nothing measured it).
        device, versions: see `environment`.
        history: a few rows of the run, such as {"step": 0, "loss": 0.69}.
        created: the date, YYYY-MM-DD. source: who measured. command: what makes it again.
    """

    id: str
    task: str
    split: str
    labels: int
    backbone: str
    backbone_sha256: str | None
    method: str
    settings: dict[str, Any]
    seed: int
    metric: str
    score: float
    predictions: list[float]
    parameters: dict[str, int]
    seconds: float
    peak_memory_mb: float | None
    device: str
    versions: dict[str, str]
    history: list[dict[str, Any]] = field(default_factory=list)
    created: str = field(default_factory=lambda: date.today().isoformat())
    source: str = OWN_SOURCE
    command: str = ""

    def __post_init__(self):
        """Make every value plain JSON, floats as short as they are meaningful; refuse what is no record.

        Raises:
            ValueError: naming the field.
        """
        for f in fields(self):
            value = _plain(getattr(self, f.name), f.name, digits=4 if f.name == "predictions" else 6)
            object.__setattr__(self, f.name, value)  # frozen for everyone else
            kinds = KINDS[f.name]
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise ValueError(f"field {f.name} must be {' or '.join(k.__name__ for k in kinds)}; got {value!r}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.id):
            raise ValueError(f"field id names a file: letters, digits, dots, dashes, underscores; got {self.id!r}")
        if self.labels < 0 or self.seconds < 0:
            raise ValueError(f"fields labels and seconds must not be negative; got {self.labels} and {self.seconds}")
        if not self.predictions or not all(isinstance(p, int | float) for p in self.predictions):
            raise ValueError("field predictions must be a list of numbers, one an item of the split, and not empty")
        if set(self.parameters) != set(PARAMETERS) or not all(isinstance(n, int) for n in self.parameters.values()):
            raise ValueError(f"field parameters must hold whole numbers {', '.join(PARAMETERS)}; got {self.parameters}")
        try:
            day = date.fromisoformat(self.created).isoformat()
        except ValueError:
            day = None
        if day != self.created:
            raise ValueError(f"field created must be a date like 2026-01-31; got {self.created!r}")


def environment(device: str | None = None) -> dict[str, Any]:
    """The fields `device` and `versions` of a record made here: `Record(..., **records.environment())`.

    Args:
        device: "cuda" … or "cpu"; by default the one that `profiles.default_device` names.
    """
    import platform

    import torch

    import peft_helpers
    from peft_helpers.profiles import default_device

    device = device or default_device()
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        name = f"{device} ({platform.machine()}), {threads} thread{'s' * (threads != 1)}"
    versions = {"python": platform.python_version(), "peft_helpers": peft_helpers.__version__}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {"device": name, "versions": versions}


def own_folder() -> Path:
    """Where your own records go: the environment variable PEFT_RECORDS, else ./records."""
    return Path(os.environ.get("PEFT_RECORDS") or "records")


def save(record: Record, folder: str | Path | None = None, *, replace: bool = False) -> Path:
    """Write a record, whole or not at all; return its file.

    Args:
        folder: by default `own_folder()`.
        replace: allow another record of the same id to be replaced.

    Raises:
        ValueError: there is another record of this id; nothing was written.
        OSError: the disk's answer; an old record is still whole.
    """
    path = Path(folder or own_folder()) / f"{record.id}.json"
    if path.exists() and not replace:
        if read(path) == record:
            return path
        raise ValueError(f"{path} holds another record of the same id: give this one its own id, or pass replace=True")
    lines = [f' "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in asdict(record).items()]
    storage.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")  # one field a line: compact, and still readable
    return path


def read(path: str | Path) -> Record:
    """Read one record's file.

    Raises:
        ValueError: truncated or foreign JSON, a field that is missing, unknown or of the wrong type, another file's id.
            The message names the file and the field.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is truncated or no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no record: it holds a JSON {type(found).__name__}, not an object")
    names = [f.name for f in fields(Record)]
    for trouble, which in (
        ("lacks", [n for n in names if n not in found]),
        ("has unknown", [n for n in found if n not in names]),
    ):
        if which:
            raise ValueError(f"{path} is no record of this version: it {trouble} field(s) {', '.join(which)}")
    try:
        record = Record(**found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if record.id != path.stem:
        raise ValueError(f"{path}: field id is {record.id!r}; was the file renamed? It should be {record.id}.json")
    return record


def load(folder: str | Path | None = None, **equal: Any) -> list[Record]:
    """Records whose fields equal what is asked for, such as `load(task="sentiment", labels=200)`, sorted by id.

    Args:
        folder: only this folder and those inside it; by default the shipped records and yours, where yours takes the
            place of a shipped one of the same id.

    Raises:
        ValueError: an unknown field, a file that is no record, two files of one id, a folder that does not exist.
    """
    names = [f.name for f in fields(Record)]
    unknown = [name for name in equal if name not in names]
    if unknown:
        raise ValueError(f"records have no field {', '.join(unknown)}; they have {', '.join(names)}")
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder}")
    found: dict[str, Record] = {}
    for root in (SHIPPED, own_folder()) if folder is None else (Path(folder),):
        here: dict[str, Path] = {}
        for path in sorted(root.rglob("*.json")):
            record = read(path)
            if record.id in here:
                raise ValueError(f"two records have the id {record.id!r}: {here[record.id]} and {path}")
            here[record.id], found[record.id] = path, record
    chosen = (r for r in found.values() if all(getattr(r, name) == value for name, value in equal.items()))
    return sorted(chosen, key=lambda record: record.id)


def summary(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row a group (task, split, metric, backbone, method, labels): mean and spread over seeds, parameters, seconds.

    Raises:
        ValueError: two records of one group have the same seed: they differ in settings and must not be averaged.
    """
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(getattr(record, name) for name in GROUP), []).append(record)
    rows = []
    for key, runs in groups.items():
        by_seed: dict[int, Record] = {}
        for run in runs:
            if run.seed in by_seed:
                raise ValueError(
                    f"{by_seed[run.seed].id} and {run.id} are one group and seed: load fewer, or by settings"
                )
            by_seed[run.seed] = run
        mean, spread, seeds = statistics.mean_and_spread(run.score for run in runs)
        seconds = statistics.mean_and_spread(run.seconds for run in runs).mean
        rows.append(
            dict(zip(GROUP, key, strict=True))
            | {
                "mean": mean,
                "spread": spread,
                "seeds": seeds,
                "trained": runs[0].parameters["trained"],
                "seconds": seconds,
            }
        )
    return rows


def table(records: Iterable[Record]) -> str:
    """`summary` as a small Markdown table: scores × 100, mean ± sample standard deviation over seeds."""
    columns = ("task", "split", "backbone", "method", "labels", "score", "seeds", "trained", "seconds")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in summary(records):
        scale, digits = (1, 3) if row["metric"] == "mse" else (100, 1)
        spread = "" if math.isnan(row["spread"]) else f" ± {row['spread'] * scale:.{digits}f}"
        cells = row | {
            "labels": f"{row['labels']:,}",
            "score": f"{row['metric']} {row['mean'] * scale:.{digits}f}{spread}",
            "trained": f"{row['trained']:,}",
            "seconds": f"{row['seconds']:.0f}",
        }
        lines.append("| " + " | ".join(str(cells[column]) for column in columns) + " |")
    return "\n".join(lines)


def _plain(value: Any, name: str, digits: int) -> Any:
    """As plain JSON: NumPy and PyTorch numbers and arrays and tuples turned into what JSON knows, floats rounded."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{name}.{key}", digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name, digits) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"field {name} holds {value}, which is no result")
        return float(f"{value:.{digits}g}")
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"field {name} holds a {type(value).__name__}; a record holds numbers, text, lists and dicts")
