"""The runs of lesson 02 to diagnose, 02-a to 02-d. (Answer first: the causes stand in here.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from peft_helpers.optimizers import SGD

Run = dict[str, dict[str, Any]]


def runs_to_diagnose(names: Sequence[str] = ("02-a", "02-b", "02-c", "02-d")) -> dict[str, Run]:
    """Run's name -> its loss at every step, as `plots.broken_runs` takes it.

    Raises:
        ValueError: on a name that is none of 02-a to 02-d.
    """
    if unknown := [name for name in names if name not in RUNS]:
        raise ValueError(f"there is no run {', '.join(map(repr, unknown))}; there are {', '.join(RUNS)}")
    return {name: descend(**RUNS[name]) for name in names}


def descend(
    curvatures: Sequence[float], start: Sequence[float], steps: int, zero: bool = True, **settings: float
) -> Run:
    """Descent on ½ Σ λ x² with autograd and the course's SGD; `zero` says whether gradients are zeroed."""
    scale = torch.tensor(curvatures, dtype=torch.float64)
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer, losses = SGD([x], **settings), []
    for _ in range(steps):
        if zero:
            optimizer.zero_grad()
        loss = 0.5 * (scale * x**2).sum()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    return {"loss": {"train": losses}}


RUNS: dict[str, dict[str, Any]] = {
    "02-a": {"curvatures": (1, 10), "start": (1, 1), "steps": 60, "learning_rate": 0.21},  # limit 2/10
    "02-b": {"curvatures": (0.01, 10), "start": (20, 0.6), "steps": 200, "learning_rate": 0.1},
    "02-c": {"curvatures": (1, 1), "start": (1, 1), "steps": 120, "learning_rate": 0.05, "momentum": 0.97},
    "02-d": {"curvatures": (1, 1), "start": (1, 1), "steps": 120, "learning_rate": 0.05, "zero": False},
}
