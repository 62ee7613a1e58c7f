"""Compacter (Karimi Mahabadi et al. 2021, arXiv:2106.04647): adapters made of Kronecker products.

Where Houlsby's adapters have W (in, out), here W = sum_i A_i ⊗ (s_i t_iᵀ) over i = 1 … n. The A_i (n, n) are shared by
all adapters of the model, s_i (in / n,) and t_i (out / n,) are a layer's own: in + out numbers instead of in · out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register, require_names, require_whole
from peft_helpers.methods.houlsby import WithAdapter
from peft_helpers.methods.surgery import wrap


class SharedRule(nn.Module):
    """The matrices A, (n, n, n), one set for the whole model: how the n blocks of an input mix."""

    def __init__(self, blocks: int):
        super().__init__()
        self.a = nn.Parameter(torch.randn(blocks, blocks, blocks) / blocks)


class KroneckerSum(nn.Module):
    """x W + b with W = sum_i A_i ⊗ (s_i t_iᵀ): (..., in) -> (..., out), W itself is never made.

    Args:
        inputs, outputs: both divisible by n.
        rule: the shared A.
        zero: start with t = 0, so that the layer gives 0.
    """

    def __init__(self, inputs: int, outputs: int, rule: SharedRule, zero: bool = False):
        super().__init__()
        n, self.rule = len(rule.a), rule
        self.s, self.t = nn.Parameter(torch.empty(n, inputs // n)), nn.Parameter(torch.zeros(n, outputs // n))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.s)
        if not zero:
            nn.init.xavier_uniform_(self.t)

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.unflatten(-1, (len(self.s), -1)) @ self.s.T  # (..., block of the input, i)
        mixed = torch.einsum("...ji,ijk->...ki", blocks, self.rule.a)  # (..., block of the output, i)
        return (mixed @ self.t).flatten(-2) + self.bias

    def weight(self) -> Tensor:
        """W, (in, out), as in the paper."""
        return sum(torch.kron(a, torch.outer(s, t)) for a, s, t in zip(self.rule.a, self.s, self.t, strict=True))


class CompacterAdapter(nn.Module):
    """h + up(gelu(down(h))) with Kronecker sums for down and up: (..., D) -> (..., D). It starts as the identity."""

    def __init__(self, width: int, bottleneck: int, rule: SharedRule):
        super().__init__()
        self.down = KroneckerSum(width, bottleneck, rule)
        self.up = KroneckerSum(bottleneck, width, rule, zero=True)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.up(nn.functional.gelu(self.down(h)))


@register(family="hybrid", paper="arXiv:2106.04647", identity_at_init=True, mergeable=False)
@dataclass(frozen=True)
class Compacter(Method):
    """Kronecker adapters where Houlsby's stand; with `sites=("ffn_out",)` it is the paper's Compacter++.

    The paper starts near the identity; here the last factor is 0, which starts on it. Layer norms stay frozen, as in
    the adapters library.

    Attributes:
        bottleneck: m; 24 is D / 32 for BERT-base.
        blocks: n, 4 in the paper; it must divide D and m.
        sites: behind which projections the adapters stand.
    """

    bottleneck: int = 24
    blocks: int = 4
    sites: tuple[str, ...] = ("attention_output", "ffn_out")

    def __post_init__(self):
        require_whole(bottleneck=self.bottleneck, blocks=self.blocks)
        require_names(sites=self.sites)
        if self.bottleneck % self.blocks:
            raise ValueError(f"blocks={self.blocks} must divide bottleneck={self.bottleneck}")

    def inject(self, anatomy: Anatomy) -> None:
        if anatomy.width % self.blocks:
            raise ValueError(f"blocks={self.blocks} must divide the model's width {anatomy.width}")
        rule = SharedRule(self.blocks)

        def with_adapter(base, site):
            return WithAdapter(base, CompacterAdapter(anatomy.width, self.bottleneck, rule))

        wrap(anatomy, anatomy.sites(self.sites), with_adapter)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """3 (D + m) an adapter (s, t and bias of both its layers), and n³ for the shared A."""
        return len(anatomy.sites(self.sites)) * 3 * (anatomy.width + self.bottleneck) + self.blocks**3
