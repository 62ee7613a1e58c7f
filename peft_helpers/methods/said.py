"""Intrinsic dimension (Aghajanyan et al. 2021, arXiv:2012.13255): a few numbers, projected into the weights.

SAID, structure-aware: W_i = W0_i + lambda_l P_i(theta), where theta is one vector for the whole model, lambda_l one
number for each of the L layers, and P_i a fixed random projection, the Fastfood transform H G Pi H B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_names, require_whole
from peft_helpers.methods.surgery import wrap
from peft_helpers.methods.weight_change import PROJECTIONS, WeightChange, present


def walsh_hadamard(x: Tensor) -> Tensor:
    """H x for a vector whose length N is a power of 2, with H of entries 1 and -1, in N log N sums."""
    step = 1
    while step < len(x):
        pairs = x.view(-1, 2, step)
        x, step = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1).reshape(-1), 2 * step
    return x


class IntrinsicVector(nn.Module):
    """theta, (d - L,), zeros at first, and lambda, (L,), ones at first: all that is trained."""

    def __init__(self, dimension: int, layers: int):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(dimension - layers))
        self.layer_scale = nn.Parameter(torch.ones(layers))


class ProjectedLinear(WeightChange):
    """A projection whose weight is moved along fixed random directions; its own P keeps theta's length on average.

    Args:
        base, site: the projection and its place.
        vector: theta and lambda, shared by all.
        layer: which lambda is its own.
        draw: where the random signs B, the permutation Pi and the normal G come from.
    """

    def __init__(self, base: nn.Module, site: Site, vector: IntrinsicVector, layer: int, draw: np.random.RandomState):
        super().__init__(base, site)
        self.vector, self.layer = vector, layer
        size = 2 ** math.ceil(math.log2(max(self.inputs * self.outputs, len(vector.theta))))
        normal = draw.standard_normal(size)
        normal /= math.sqrt((normal**2).sum() * self.inputs * self.outputs)
        fixed = {
            "signs": torch.from_numpy(2.0 * draw.randint(0, 2, len(vector.theta)) - 1).float(),
            "order": torch.from_numpy(draw.permutation(size)).to(torch.int32),
            "normal": torch.from_numpy(normal).float(),
        }
        for name, values in fixed.items():  # not saved, the seed is
            self.register_buffer(name, values.to(site.module.weight.device), persistent=False)

    def delta(self) -> Tensor:
        theta = self.vector.theta * self.signs
        mixed = walsh_hadamard(nn.functional.pad(theta, (0, len(self.order) - len(theta))))
        spread = walsh_hadamard(mixed[self.order.long()] * self.normal)[: self.inputs * self.outputs]
        return self.vector.layer_scale[self.layer] * spread.view(self.outputs, self.inputs)


@register(family="reparametrization", paper="arXiv:2012.13255", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class SAID(Method):
    """d numbers for the whole model; the smallest d that reaches 90 % of full fine-tuning measures a task.

    Attributes:
        dimension: d, the L layers' lambdas included; the paper needs about 200 for RoBERTa-large on MRPC.
        targets: names of projections; None for all. The paper projects into all parameters; queries and values alone
            are the default here, since a transform costs memory and time for each number of a weight.
        seed: draws the projections, by a stream that is the same in every version of NumPy.
    """

    dimension: int = 200
    targets: tuple[str, ...] | None = ("query", "value")
    seed: int = 0

    def __post_init__(self):
        require_whole(dimension=self.dimension)
        if self.targets is not None:
            require_names(targets=self.targets)

    @property
    def sites(self) -> tuple[str, ...]:
        return self.targets or PROJECTIONS

    def inject(self, anatomy: Anatomy) -> None:
        self.parameter_count(anatomy)  # refuses what is too small
        vector, draw = IntrinsicVector(self.dimension, len(anatomy.layers)), np.random.RandomState(self.seed)
        numbers = {site: number for number, layer in enumerate(anatomy.layers) for site in layer.sites.values()}
        sites = present(anatomy) if self.targets is None else anatomy.sites(self.targets)
        wrap(anatomy, sites, lambda base, site: ProjectedLinear(base, site, vector, numbers[site], draw))

    def parameter_count(self, anatomy: Anatomy) -> int:
        """d, whatever the size of the model: theta has d - L numbers, lambda L.

        Raises:
            ValueError: d leaves nothing for theta.
        """
        if self.dimension <= len(anatomy.layers):
            raise ValueError(
                f"dimension={self.dimension} must be more than the {len(anatomy.layers)} layers, which take one each"
            )
        return self.dimension
