"""The unified view of He et al. (2022, arXiv:2110.04366): every method as a change of a hidden state, h <- h + s · dh.

x is what a block or projection reads, h what it gives. The methods differ in what dh is made of, and in what they
change. For adapters, parallel adapters, LoRA and (IA)³ the identity is their definition; for prefixes it follows from
splitting the softmax's sum in two (the paper's eq. 7). Everything here is a plain function of tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v: (..., T, d), (..., S, d), (..., S, d) -> (..., T, d)."""
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


def prefix_share(q: Tensor, k: Tensor, prefix_k: Tensor) -> Tensor:
    """lambda: how much of each query's attention falls on the prefix, (..., T, 1).

    The sum of exp(score) over the prefix, divided by that over prefix and text; q (..., T, d), k (..., S, d), prefix_k
    (..., l, d).
    """
    scale = q.shape[-1] ** 0.5
    on_prefix = (q @ prefix_k.transpose(-1, -2) / scale).logsumexp(-1, keepdim=True)
    on_text = (q @ k.transpose(-1, -2) / scale).logsumexp(-1, keepdim=True)
    return torch.sigmoid(on_prefix - on_text)


def prefix_change(q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor) -> Tensor:
    """What a prefix adds to an attention head's output: lambda · (attend(q, prefix) - attend(q, text)), (..., T, d)."""
    share = prefix_share(q, k, prefix_k)
    return share * (attend(q, prefix_k, prefix_v) - attend(q, k, v))


def adapter_change(
    x: Tensor, down: nn.Linear, up: nn.Linear, activation: Callable[[Tensor], Tensor], scale: float = 1.0
) -> Tensor:
    """scale · up(activation(down(x))); a sequential adapter reads its own h as x, a parallel one the block's input."""
    return scale * up(activation(down(x)))


def low_rank_change(x: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """LoRA: scale · B A x, with A (r, in), B (out, r) and scale = alpha / r."""
    return scale * (x @ a.T) @ b.T


def rescaling_change(h: Tensor, factors: Tensor) -> Tensor:
    """(IA)³: l * h = h + (l - 1) * h; the change is proportional to h itself."""
    return (factors - 1) * h
