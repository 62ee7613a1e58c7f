"""A small network on fixed features, trained in a tenth of a second: so that dozens of runs can be compared.

Lesson 06 makes over- and underfitting with it, and cures them. What it learns from is a dictionary split ->
(features (N, D), labels (N,)); `features_of` makes one from a frozen backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from peft_helpers.tasks import Task

Splits = Mapping[str, tuple[Tensor, Tensor]]
LOOK = 10  # steps between two looks at all splits


def network(inputs: int, width: int, classes: int, dropout: float = 0.0) -> nn.Sequential:
    """One hidden layer of `width` units, or none at all for width 0: (N, D) features -> (N, K) logits.

    Raises:
        ValueError: a size below 1 (width: below 0), or dropout outside 0 to below 1.
    """
    require_sizes(inputs, width, classes, dropout)
    if width == 0:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, classes))
    hidden = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(*hidden, nn.Linear(width, classes))


def penalty(model: nn.Module, l1: float, l2: float) -> Tensor:
    """λ₁ Σ|w| + λ₂/2 Σw² over the weights of all matrices (biases stay free)."""
    weights = torch.cat([p.flatten() for p in model.parameters() if p.ndim > 1])
    return l1 * weights.abs().sum() + l2 / 2 * (weights**2).sum()


def learn(
    splits: Splits, width: int = 64, steps: int = 200, rate: float = 1e-3, l1=0.0, l2=0.0, dropout=0.0, seed=0
) -> list[dict[str, float]]:
    """Train on splits["train"] by Adam, all of it in one batch; look at every split each `LOOK` steps.

    Args:
        splits: name -> (features (N, D), labels (N,)); "train" is learned from.
        width, dropout: see `network`. l1, l2: see `penalty`. rate: Adam's.
        steps: of training; step 0 is looked at too.
        seed: draws weights and dropout.

    Returns:
        rows {"step", "train loss", "train accuracy", "dev loss", …}; losses without the penalty, dropout off.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, y = splits["train"]
        model, rows = network(x.shape[1], width, int(y.max()) + 1, dropout).to(x.dtype), []
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        for step in range(steps + 1):
            if step % LOOK == 0:
                rows.append({"step": step, **look(model, splits)})
            loss = F.cross_entropy(model.train()(x), y) + penalty(model, l1, l2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return rows


@torch.no_grad()
def look(model: nn.Module, splits: Splits) -> dict[str, float]:
    """Loss and accuracy on every split, dropout off: {"train loss": …, "train accuracy": …, "dev loss": …, …}."""
    seen = {}
    for name, (x, y) in splits.items():
        logits = model.eval()(x)
        seen[f"{name} loss"] = F.cross_entropy(logits, y).item()
        seen[f"{name} accuracy"] = (logits.argmax(-1) == y).double().mean().item()
    return seen


# ---------------------------------------------------------------- features


def standardized(splits: Mapping[str, tuple[NDArray, NDArray]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Every feature with mean 0 and deviation 1 **on train**: the other splits must not have a say in it.

    Args:
        splits: name -> (features (N, D), labels (N,)), as arrays.

    Raises:
        ValueError: no train split, or features that are no (N, D) of at least two rows.
    """
    if "train" not in splits:
        raise ValueError(f"there is no train split to take mean and deviation from; there are {', '.join(splits)}")
    train = np.asarray(splits["train"][0], dtype=float)
    if train.ndim != 2 or len(train) < 2:
        raise ValueError(f"features must be (N, D) with at least two rows; got shape {train.shape}")
    mean, deviation = train.mean(0), train.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return {
        name: (torch.tensor((np.asarray(x) - mean) / deviation, dtype=torch.float32), torch.tensor(np.asarray(y)))
        for name, (x, y) in splits.items()
    }


def frozen_splits(model: Any, tokenizer: Any, task: Task) -> dict[str, tuple[NDArray, NDArray]]:
    """What `standardized` takes, from a frozen backbone: name -> (summaries (N, D), labels (N,))."""
    from peft_helpers import baselines

    return {
        split: (baselines.frozen_features(model, tokenizer, task, split), np.array(task.splits[split]["label"]))
        for split in task.splits
    }


# ---------------------------------------------------------------- input checks


def require_sizes(inputs: int, width: int, classes: int, dropout: float) -> None:
    """Refuse what is no network.

    Raises:
        ValueError: naming the size.
    """
    for name, value, least in (("inputs", inputs, 1), ("width", width, 0), ("classes", classes, 1)):
        if not (isinstance(value, int) and value >= least):
            raise ValueError(f"{name} must be a whole number from {least} on; got {value!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is the share that is dropped, 0 to below 1; got {dropout}")
