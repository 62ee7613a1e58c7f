"""Training in 16 bits: what fits between a number format's ends, and loss scaling (lesson 07).

Micikevicius et al. 2018, *Mixed Precision Training* (arXiv:1710.03740): weights and updates in float32, products in
16 bits, and in float16 a loss that is scaled up before the backward pass, so that small gradients survive it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import nn


class LossScaler:
    """Dynamic loss scaling: unscale the gradients and step; on overflow skip the step and halve the scale.

    Train with `scaler.scale * loss` and call `scaler.step(optimizer, parameters)` in place of `optimizer.step()`. The
    scale is halved after an overflow and doubled after `interval` good steps in a row (arXiv:1710.03740, section 3.2);
    the same rule, and the same default start, as `torch.amp.GradScaler`.

    Args:
        scale: what the loss is multiplied by at first.
        interval: good steps in a row until the scale is doubled.
    """

    def __init__(self, scale: float = 2.0**16, interval: int = 2000):
        self.scale, self.interval, self.good = scale, interval, 0

    def step(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> bool:
        """Step if every gradient is finite; say whether it did. Gradients are float32, and divided in place."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        finite = all(bool(torch.isfinite(g).all()) for g in gradients)
        if finite:
            for g in gradients:
                g /= self.scale
            optimizer.step()
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good == self.interval:
            self.scale, self.good = 2 * self.scale, 0
        return finite


class Fate(NamedTuple):
    """What becomes of numbers in a format, as shares of those that are not 0: they add up to 1."""

    normal: float
    coarse: float
    lost: float
    overflow: float


def fate(values: torch.Tensor, dtype: torch.dtype = torch.float16) -> Fate:
    """How many of these float32 numbers survive in a 16-bit format.

    Normal numbers keep the format's full precision; coarse ones lie below its smallest normal number and keep fewer
    digits; lost ones become 0; the rest overflows.

    Raises:
        ValueError: if there is no number but zeros.
    """
    values = values.detach().float().flatten()
    values = values[values != 0]
    if not len(values):
        raise ValueError("there is no number besides zeros")
    there = values.to(dtype).float().abs()
    overflow, lost = (~torch.isfinite(there)).float().mean().item(), (there == 0).float().mean().item()
    small = (there < torch.finfo(dtype).tiny).float().mean().item()
    return Fate(max(0.0, 1 - small - overflow), small - lost, lost, overflow)


def smallest(dtype: torch.dtype) -> float:
    """The smallest positive number of a format, below its normal ones: half of it, or less, is rounded to 0."""
    about = torch.finfo(dtype)
    return about.tiny * about.eps
