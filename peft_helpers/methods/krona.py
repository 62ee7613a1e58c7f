"""KronA (Edalati et al. 2022, arXiv:2212.10650): the change of a weight matrix is a Kronecker product.

h = W x + s·(A ⊗ B) x, with A (a1, a2), B (b1, b2), a1·b1 = out and a2·b2 = in. Unlike a product of thin matrices, it
can have full rank: rank(A ⊗ B) = rank(A)·rank(B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_names, require_whole
from peft_helpers.methods.surgery import features, wrap
from peft_helpers.methods.weight_change import WeightChange


def divisor(size: int) -> int:
    """The largest divisor up to the square root: with it, the two factors are as equal, and so as small, as can be."""
    return next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)


class KroneckerLinear(WeightChange):
    """A projection with s·(A ⊗ B) added to its weight. A is random at first, B zero.

    Args:
        base, site: the projection and its place.
        block: (b1, b2), the shape of B.
        scale: s.
    """

    def __init__(self, base: nn.Module, site: Site, block: tuple[int, int], scale: float):
        super().__init__(base, site)
        self.a = nn.Parameter(torch.empty(self.outputs // block[0], self.inputs // block[1]))
        self.b = nn.Parameter(torch.zeros(block))
        self.scale = scale
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def change(self, x: Tensor) -> Tensor:
        """(A ⊗ B) x = vec(A X Bᵀ) with X = x as (a2, b2): the product itself is never made."""
        grid = x.unflatten(-1, (self.a.shape[1], self.b.shape[1]))
        return self.scale * (self.a @ (grid @ self.b.T)).flatten(-2)

    def delta(self) -> Tensor:
        return self.scale * torch.kron(self.a, self.b)


@register(family="reparametrization", paper="arXiv:2212.10650", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class KronA(Method):
    """Kronecker products beside some projections, the queries' and values' in the paper.

    Attributes:
        block: b1 = b2 = block; it must divide the targets' inputs and outputs. None takes the divisor nearest to the
            square root of each size: 24 for 768, 32 for 1024.
        scale: s.
        targets: names of projections; see `backbones.anatomy`.
    """

    block: int | None = None
    scale: float = 1.0
    targets: tuple[str, ...] = ("query", "value")

    def __post_init__(self):
        require_names(targets=self.targets)
        if self.block is not None:
            require_whole(block=self.block)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number; got {self.scale!r}")

    @property
    def sites(self) -> tuple[str, ...]:
        return self.targets

    def _block(self, site: Site) -> tuple[int, int]:
        inputs, outputs = features(site)
        if self.block is None:
            return divisor(outputs), divisor(inputs)
        if inputs % self.block or outputs % self.block:
            raise ValueError(f"block={self.block} must divide the {inputs} inputs and {outputs} outputs of {site.path}")
        return self.block, self.block

    def inject(self, anatomy: Anatomy) -> None:
        sites = anatomy.sites(self.targets)
        wrap(anatomy, sites, lambda base, site: KroneckerLinear(base, site, self._block(site), self.scale))

    def parameter_count(self, anatomy: Anatomy) -> int:
        """b1 b2 + (out / b1) (in / b2) a target; at best about 2 √(in out), a rank-1 LoRA's in + out."""
        total = 0
        for site in anatomy.sites(self.targets):
            (inputs, outputs), (rows, columns) = features(site), self._block(site)
            total += rows * columns + (outputs // rows) * (inputs // columns)
        return total
