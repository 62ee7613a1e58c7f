"""Saves a method again and again, and is killed by the system at a chosen moment of each save.

python tests/killed_while_saving.py FOLDER        # FOLDER/<moment> holds what was saved before
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import safetensors.torch
from conformance import Case, applied, disturb

from peft_helpers import methods, storage

MOMENTS = ("half a file", "before the exchange", "tensors without their header")
EXCHANGE = "peft, between the two files"
NEW = methods.Houlsby(4)


def die(*given, **named) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_file(tensors, path, metadata=None) -> None:
    data = safetensors.torch.save(tensors, metadata)
    Path(path).write_bytes(data[: len(data) // 2])
    die()


def new(method: methods.Method):
    """The same tensors in every process: nothing is trained, where rounding would grow."""
    model = applied(Case(method, "bert"))
    disturb(model)
    return model


def save_and_die(folder: Path) -> None:
    if folder.name == EXCHANGE:
        replace = os.replace
        left = iter([replace, die])
        os.replace = lambda *given: next(left)(*given)
        methods.to_peft(new(methods.LoRA(rank=2, alpha=1.0)), folder)
    if folder.name == "half a file":
        safetensors.torch.save_file = half_a_file
    elif folder.name == "before the exchange":
        os.replace = die
    else:
        storage.write_json = die
    methods.save(new(NEW), folder)


if __name__ == "__main__":
    for moment in (*MOMENTS, EXCHANGE):
        child = os.fork()
        if child == 0:
            save_and_die(Path(sys.argv[1]) / moment)
            os._exit(0)  # alive after all
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{moment}: not killed, {status}"
