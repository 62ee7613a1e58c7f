"""The learning-rate range test: one short run in which the rate grows from far too small to far too large.

After Smith 2015 (arXiv:1506.01186, section 3.3), with a rate that grows by the same factor at every step instead of by
the same amount, since usable rates span powers of ten. The run costs a few dozen steps and ruins the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peft_helpers import training

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.tasks import Task


def range_test(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, rates: Sequence[float], batch_size: int = 16
) -> list[float]:
    """The loss of each batch before its step, one step a rate; it ends early once the loss is 4 times the first.

    AdamW without weight decay, the gradient clipped to length 1, as in `training.fit`. The batches are those of seed 0,
    epoch after epoch. The model is left ruined: load it again.

    Raises:
        ValueError: fewer than two rates, or rates that are not positive and rising.
    """
    require_rising(rates)
    data = training.encode(task, "train", tokenizer, training.length_limit(model, tokenizer))
    device, losses, plan = next(model.parameters()).device, [], []
    optimizer = torch.optim.AdamW(model.train().parameters(), weight_decay=0.0)
    torch.manual_seed(0)  # for dropout
    for step, rate in enumerate(rates):
        plan = plan or training.batches(data.lengths, batch_size, seed=0, epoch=step)
        batch = training.collate(data, plan.pop(), tokenizer.pad_token_id)
        batch = {key: tensor.to(device) for key, tensor in batch.items()}
        labels = batch.pop("labels")
        loss = training.loss_sum(model(**batch).logits, labels, task.kind) / len(labels)
        losses.append(loss.item())
        if not losses[-1] < 4 * losses[0]:
            break
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return losses


def smoothed(losses: Sequence[float], beta: float = 0.9) -> NDArray:
    """Running mean with the memory of 1/(1 − β) steps, corrected at the start as Adam's m is. (T,) -> (T,)."""
    mean, means = 0.0, []
    for t, loss in enumerate(losses, 1):
        mean = beta * mean + (1 - beta) * loss
        means.append(mean / (1 - beta**t))
    return np.array(means)


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at which the (smoothed) loss falls fastest per step, on its way down to the lowest point.

    What comes behind the lowest point is not looked at: there a run that has broken falls back, steeply and for no
    good reason.

    Raises:
        ValueError: unequal lengths, fewer than two losses, or a loss that never falls.
    """
    require_pairs(rates, losses)
    lowest = int(np.argmin(losses))
    falls = np.diff(losses[: lowest + 1])
    return float(rates[int(np.argmin(falls))])


# ---------------------------------------------------------------- input checks


def require_rising(rates: Sequence[float]) -> None:
    """Refuse rates that are no range test.

    Raises:
        ValueError: naming what is wrong.
    """
    values = np.asarray(rates, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"a range test needs at least two rates; got {values.size}")
    if not (values[0] > 0 and math.isfinite(values[-1]) and (np.diff(values) > 0).all()):
        raise ValueError(f"the rates must be positive and rise from step to step; they begin with {values[:3]}")


def require_pairs(rates: Sequence[float], losses: Sequence[float]) -> None:
    """Refuse a curve that can't be read.

    Raises:
        ValueError: naming what is wrong.
    """
    if len(rates) != len(losses) or len(losses) < 2:
        raise ValueError(f"one loss a rate, at least two; got {len(rates)} rates and {len(losses)} losses")
    if not np.isfinite(losses).all():
        raise ValueError("a loss is NaN or infinite: hand over the losses before the run broke")
    if int(np.argmin(losses)) == 0:
        raise ValueError("the loss never falls below its first value: all these rates are too large, or too small")
