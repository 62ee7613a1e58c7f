"""LoRA (Hu et al. 2022, arXiv:2106.09685, section 4.1): a change of low rank beside a frozen weight matrix.

h = W x + (alpha / r) · B A x, with A (r, in) random and B (out, r) zero at first. After training W + (alpha / r) · B A
is one matrix again, so inference costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_names, require_whole
from peft_helpers.methods.surgery import Wrapper, features, wrap


class LoRALinear(Wrapper):
    """A projection with a change of rank r beside it: (..., in) -> (..., out).

    Args:
        base: the projection, or an earlier wrapper of it.
        site: the projection's place; for GPT-2's fused query-key-value matrix it says which third is meant.
        rank: r.
        alpha: the change is scaled by alpha / r, so that another rank needs no other learning rate.
        dropout: on the input of the change, in training.
    """

    def __init__(self, base: nn.Module, site: Site, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__(base)
        inputs, self.outputs = features(site)
        self.third, self.scale = site.third, alpha / rank
        self.down = nn.Linear(inputs, rank, bias=False)  # A
        self.up = nn.Linear(rank, self.outputs, bias=False)  # B
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.base(x)
        change = self.up(self.down(self.dropout(x.float())) * self.scale).to(h.dtype)
        if self.third is not None:  # (B, T, D) -> (B, T, 3 D), zeros for the other two
            change = nn.functional.pad(change, (self.third * self.outputs, (2 - self.third) * self.outputs))
        return h + change

    @torch.no_grad()
    def merge(self) -> None:
        """W += (alpha / r) B A, added in float32."""
        base = self.innermost
        weight = base.weight.T if isinstance(base, Conv1D) else base.weight  # (out, in), a view
        if self.third is not None:
            weight = weight[self.third * self.outputs : (self.third + 1) * self.outputs]
        weight.copy_(weight.float() + self.scale * self.up.weight @ self.down.weight)


@register(family="reparametrization", paper="arXiv:2106.09685", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class LoRA(Method):
    """Low-rank changes of some projections, the queries' and values' in the paper.

    Attributes:
        rank: r.
        alpha: the change is scaled by alpha / r.
        targets: names of projections; see `backbones.anatomy`.
        dropout: on the input of the change, in training.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "value")
    dropout: float = 0.0

    def __post_init__(self):
        require_whole(rank=self.rank)
        require_names(targets=self.targets)
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be a positive number; got {self.alpha!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1; got {self.dropout!r}")

    @property
    def sites(self) -> tuple[str, ...]:
        return self.targets

    def inject(self, anatomy: Anatomy) -> None:
        def with_lora(base, site):
            return LoRALinear(base, site, self.rank, self.alpha, self.dropout)

        wrap(anatomy, anatomy.sites(self.targets), with_lora)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """r (in + out) a target; for query and value of width D that is 4 L D r."""
        return sum(self.rank * sum(features(site)) for site in anatomy.sites(self.targets))
