"""Putting a generated folder in its place: whole or not at all, and never over somebody's work.

A folder made here lists its files and their hashes in `.made.json`. As long as nothing in it has changed and nothing
has been added, it may be replaced; otherwise it holds work (a gradebook, submissions, a teacher's notes).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from peft_helpers.storage import sha256, write_json

LIST = ".made.json"
CACHES = {".ipynb_checkpoints", "__pycache__"}


class HasWork(ValueError):
    """The folder holds files that were not generated, or were changed since."""


@contextlib.contextmanager
def replace_folder(folder: Path, set_aside: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success it takes its place, on failure everything stays as it was.

    Args:
        set_aside: if there is work in `folder`, rename it to `<name>.before-1`, -2 … instead of refusing.

    Raises:
        HasWork: if there is work in `folder` (before anything is generated).
        OSError: whatever the disk answers.
    """
    check(folder, set_aside)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        yield new
        write_json(new / LIST, hashes(new))
        os.chmod(new, 0o755)  # mkdtemp makes folders private
        check(folder, set_aside)  # somebody may have worked meanwhile
        if folder.exists():
            keep = bool(work(folder))
            old = _free_name(folder) if keep else new.with_name(f"{new.name}.old")
            os.replace(folder, old)
            os.replace(new, folder)
            if not keep:
                shutil.rmtree(old)
        else:
            os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check(folder: Path, set_aside: bool = False) -> None:
    """Refuse a folder with work in it, unless it may be set aside.

    Raises:
        HasWork: naming some of the files.
    """
    if not set_aside and (found := work(folder)):
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise HasWork(
            f"{folder} holds work that is not in the course ({', '.join(found[:5])}{more}), so it stays as it is. "
            "Write elsewhere with --into FOLDER, or let the old folder be renamed with --set-aside."
        )


def work(folder: Path) -> list[str]:
    """Files in `folder` that were added, changed or taken away since it was made; all, if it wasn't made here.

    Raises:
        HasWork: if it is no folder at all.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise HasWork(f"{folder} is a file, not a folder; rename it first")
    try:
        made = json.loads((folder / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        made = {}
    found = hashes(folder)
    return sorted(name for name in found | made if found.get(name) != made.get(name))


def hashes(folder: Path) -> dict[str, str]:
    """Name below `folder` -> hash of the content, of every file but the list itself and caches."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not CACHES & set(path.parts))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files if path != folder / LIST}


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}.before-{number}") for number in range(1, 10_000))
    return next(name for name in names if not name.exists())
