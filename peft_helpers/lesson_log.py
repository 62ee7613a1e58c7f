"""What the reader committed and answered, one JSON object a line, in a file that only the reader ever looks at.

The file is `$PEFT_LOG`, or `lesson_log.jsonl` in the current folder. Delete it to start afresh. A folder that can't be
written to is no error: then the answers last as long as the notebook's kernel.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

EVENTS = ("prediction", "outcome", "answer")
_unsaved: list[dict[str, Any]] = []  # what could not be written


def path() -> Path:
    """Where the log is."""
    return Path(os.environ.get("PEFT_LOG") or "lesson_log.jsonl")


def append(event: str, key: str, **facts: Any) -> bool:
    """Add one line; True if it is on the disk, False if it is only in memory.

    Args:
        event: one of `EVENTS`.
        key: the prediction's key or the question's id.
        **facts: anything JSON can hold.

    Raises:
        ValueError: on an unknown event.
    """
    if event not in EVENTS:
        raise ValueError(f"unknown event {event!r}; there are {', '.join(EVENTS)}")
    entry = {"time": datetime.now().astimezone().isoformat(timespec="seconds"), "event": event, "key": key} | facts
    line = json.dumps(entry, ensure_ascii=False) + "\n"
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path(), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(handle).st_size
            if size and _byte_before(handle, size) != b"\n":
                line = "\n" + line  # a line that was cut off stays alone
            os.write(handle, line.encode())  # one write: two notebooks at a time don't mix their lines
        finally:
            os.close(handle)
    except OSError:
        _unsaved.append(entry)
        return False
    return True


def _byte_before(handle: int, position: int) -> bytes:
    os.lseek(handle, position - 1, os.SEEK_SET)
    return os.read(handle, 1)


def entries(event: str | None = None, key: str | None = None) -> list[dict[str, Any]]:
    """The log in order, all of it or one event or key; lines that are no entry are passed over."""
    try:
        lines = path().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = [entry for line in lines if (entry := _parsed(line)) is not None] + _unsaved
    return [e for e in found if event in (None, e["event"]) and key in (None, e["key"])]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and entry.get("event") in EVENTS and "key" in entry else None


def is_saved(entry: dict[str, Any]) -> bool:
    """Whether an entry is on the disk, or lasts only as long as the kernel."""
    return entry not in _unsaved


def first(event: str, key: str) -> dict[str, Any] | None:
    """The first entry of that event and key: a prediction can't be taken back."""
    return next(iter(entries(event, key)), None)
