"""One method a family, as small as it can be written: for one frozen projection, or one frozen block.

Additive: a new vector that rescales. Selective: a subset of the weights. Reparametrization: a subspace of the weights.
Hybrid: a part behind a gate. The registered methods do the same on every architecture (`peft_helpers.methods`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rescaled(nn.Module):
    """Additive, (IA)³ (arXiv:2205.05638): l * base(x), where l, (out,), starts as ones. (..., in) -> (..., out)."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(base.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) * self.scale


class Subset(nn.Module):
    """Selective: the k largest weights may change, all others stay (arXiv:2406.13175). (..., in) -> (..., out).

    W + S with S zero outside the mask; k numbers are trained, not a masked gradient of the whole matrix.
    """

    def __init__(self, base: nn.Linear, share: float):
        super().__init__()
        self.base = base.requires_grad_(False)
        kept = max(1, round(share * base.weight.numel()))
        self.register_buffer("index", base.weight.abs().reshape(-1).topk(kept).indices)
        self.values = nn.Parameter(torch.zeros(kept))

    def forward(self, x: Tensor) -> Tensor:
        change = torch.zeros(self.base.weight.numel()).index_put((self.index,), self.values)
        return self.base(x) + x @ change.view_as(self.base.weight).T


class Subspace(nn.Module):
    """Reparametrization, intrinsic dimension (arXiv:1804.08838): W + P theta. (..., in) -> (..., out).

    P, (out · in, d), is fixed; theta, (d,), is trained: every weight can move, in d directions only.
    """

    def __init__(self, base: nn.Linear, directions: Tensor):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.register_buffer("directions", directions)
        self.theta = nn.Parameter(torch.zeros(directions.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        change = (self.directions @ self.theta).view_as(self.base.weight)
        return self.base(x) + x @ change.T


class Gated(nn.Module):
    """Hybrid, UniPELT's gate (arXiv:2110.07577): h + g (h' - h), where g = sigmoid(w x + b) is a number a token.

    Args:
        base: the frozen part, h = base(x).
        part: a method around it, h' = part(x).
        width: of x.
    """

    def __init__(self, base: nn.Module, part: nn.Module, width: int):
        super().__init__()
        self.base, self.part = base, part
        self.gate = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, g = self.base(x), torch.sigmoid(self.gate(x))
        return h + g * (self.part(x) - h)
