"""Writing files so that a crash, a full disk or `kill -9` never leaves half a file behind.

Everything that the course saves goes through `replace_atomically`: the new content is written beside the old file,
flushed to the disk, and only then put in its place in one step. Tensors are stored as safetensors, never as pickles:
loading a pickle runs whatever code its author put there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def replace_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on failure `path` stays as it was.

    Raises:
        OSError: whatever the disk answers (full, read-only …); the old file is still whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private; ours are ordinary files
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write named tensors and a JSON-able `metadata` into one safetensors file, atomically."""
    from safetensors.torch import save_file

    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    contiguous = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with replace_atomically(path) as temporary:
        save_file(contiguous, temporary, metadata=header)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote: (tensors, metadata).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated or no safetensors file of ours.
    """
    tensors, texts = read_any_tensors(path)
    try:
        return tensors, {key: json.loads(text) for key, text in texts.items()}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is no safetensors file of this course: its metadata is not JSON ({error}). "
            "One of huggingface/peft's is read by methods.from_peft"
        ) from error


def read_any_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read anybody's safetensors file: (tensors, metadata as it stands there).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is truncated or not a safetensors file ({error}). "
            "Delete it to start afresh, or restore it from a copy."
        ) from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
