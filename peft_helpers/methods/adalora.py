"""AdaLoRA (Zhang et al. 2023, arXiv:2303.10512, eq. 3): a low-rank change like a singular value decomposition.

h = W x + (alpha / r) · P diag(lam) Q x. A triplet (column of P, number of lam, row of Q) is taken out by setting its
number to 0, so matrices can be given other ranks in training: `rank_allocation.RankAllocator` does that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import register
from peft_helpers.methods.lora import LoRA
from peft_helpers.methods.surgery import features, wrap
from peft_helpers.methods.weight_change import WeightChange


class SVDLinear(WeightChange):
    """A projection with a change in SVD form: P (out, r) and Q (r, in) small and random at first, lam (r,) zero.

    P and Q are not kept orthogonal, only pulled that way, by `penalty`.
    """

    def __init__(self, base: nn.Module, site: Site, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__(base, site)
        self.p = nn.Parameter(0.02 * torch.randn(self.outputs, rank))
        self.singular = nn.Parameter(torch.zeros(rank))
        self.q = nn.Parameter(0.02 * torch.randn(rank, self.inputs))
        self.scale, self.dropout = alpha / rank, nn.Dropout(dropout)

    def change(self, x: Tensor) -> Tensor:
        inner = nn.functional.linear(self.dropout(x), self.q) * (self.scale * self.singular)
        return nn.functional.linear(inner, self.p)

    def delta(self) -> Tensor:
        return self.scale * (self.p * self.singular) @ self.q

    def penalty(self) -> Tensor:
        """||Pᵀ P - I||² + ||Q Qᵀ - I||², the paper's eq. 4."""
        unit = torch.eye(len(self.singular), device=self.p.device)
        return (self.p.T @ self.p - unit).square().sum() + (self.q @ self.q.T - unit).square().sum()


@register(family="reparametrization", paper="arXiv:2303.10512", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class AdaLoRA(LoRA):
    """LoRA in SVD form; the settings are LoRA's.

    Attributes:
        rank: r at first, one and a half times the average rank that shall be left.
    """

    rank: int = 12

    def inject(self, anatomy: Anatomy) -> None:
        def with_svd(base, site):
            return SVDLinear(base, site, self.rank, self.alpha, self.dropout)

        wrap(anatomy, anatomy.sites(self.targets), with_svd)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """r (in + out + 1) a target."""
        return sum(self.rank * (sum(features(site)) + 1) for site in anatomy.sites(self.targets))
