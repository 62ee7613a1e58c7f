"""VeRA (Kopiczko et al. 2024, arXiv:2310.11454, eq. 2): LoRA with random matrices that all layers share.

h = W x + b * (B (d * (A x))), with A (r, in) and B (out, r) random and frozen. Only the vectors are learned: d (r,),
which starts at a small constant, and b (out,), which starts as zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_names, require_whole
from peft_helpers.methods.surgery import features, wrap
from peft_helpers.methods.weight_change import WeightChange


class SharedMatrices(nn.Module):
    """A (r, in) and B (out, r), Kaiming-uniform from a seed; one pair for the whole model.

    They aren't saved, only the seed is: the stream of NumPy's RandomState is the same in every version.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, seed: int, device: torch.device):
        super().__init__()
        draw = np.random.RandomState(seed)
        for name, shape in (("a", (rank, inputs)), ("b", (outputs, rank))):
            bound = math.sqrt(6 / shape[1])
            values = torch.from_numpy(draw.uniform(-bound, bound, shape)).float().to(device)
            self.register_buffer(name, values, persistent=False)


class VeRALinear(WeightChange):
    """A projection with a random change of rank r, scaled by two learned vectors; it uses a part of A and B."""

    def __init__(self, base: nn.Module, site: Site, shared: SharedMatrices, start: float):
        super().__init__(base, site)
        self.shared = shared
        self.scale_rank = nn.Parameter(torch.full((len(shared.a),), start))  # d
        self.scale_out = nn.Parameter(torch.zeros(self.outputs))  # b

    def change(self, x: Tensor) -> Tensor:
        a, b = self.shared.a[:, : self.inputs], self.shared.b[: self.outputs]
        inner = nn.functional.linear(x, a) * self.scale_rank
        return nn.functional.linear(inner, b) * self.scale_out

    def delta(self) -> Tensor:
        a, b = self.shared.a[:, : self.inputs], self.shared.b[: self.outputs]
        return self.scale_out[:, None] * (b @ (self.scale_rank[:, None] * a))


@register(family="reparametrization", paper="arXiv:2310.11454", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class VeRA(Method):
    """Two vectors a target over one shared pair of random matrices.

    Where targets differ in size, the pair has the largest one's size and the others use its first rows and columns (so
    peft does; the paper's targets are of one size).

    Attributes:
        rank: r; far larger than LoRA's, since only r numbers a target depend on it.
        targets: names of projections; see `backbones.anatomy`.
        start: what d starts at, 0.1 in the paper.
        seed: draws A and B; a checkpoint holds it in their place.
    """

    rank: int = 256
    targets: tuple[str, ...] = ("query", "value")
    start: float = 0.1
    seed: int = 0

    def __post_init__(self):
        require_whole(rank=self.rank)
        require_names(targets=self.targets)
        if not 0 < abs(self.start) < math.inf:
            raise ValueError(f"start must be a number other than 0, or nothing is learned; got {self.start!r}")

    @property
    def sites(self) -> tuple[str, ...]:
        return self.targets

    def inject(self, anatomy: Anatomy) -> None:
        sites = anatomy.sites(self.targets)
        inputs, outputs = (max(sizes) for sizes in zip(*map(features, sites), strict=True))
        shared = SharedMatrices(inputs, outputs, self.rank, self.seed, sites[0].module.weight.device)
        wrap(anatomy, sites, lambda base, site: VeRALinear(base, site, shared, self.start))

    def parameter_count(self, anatomy: Anatomy) -> int:
        """r + out a target; for query and value of width D that is 2 L (D + r)."""
        return sum(self.rank + features(site)[1] for site in anatomy.sites(self.targets))
