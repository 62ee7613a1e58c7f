"""Sparse masks: train a few entries of the weight matrices, chosen once, before training.

W' = W + S, where S is zero outside the mask. Here the mask takes each matrix's largest weights (SHiRA-WM, Bhardwaj et
al. 2024, arXiv:2406.13175); `fish_mask` chooses by Fisher information.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_names
from peft_helpers.methods.surgery import features, wrap
from peft_helpers.methods.weight_change import PROJECTIONS, WeightChange, matrix, present


class Mask(nn.Module):
    """The values that are trained, (k,), zeros at first, and their places in all target matrices laid end to end.

    Optimizer and checkpoint see k numbers; masked gradients of whole matrices would let weight decay move the rest.
    """

    def __init__(self, index: Tensor):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(len(index), device=index.device))
        self.register_buffer("index", index)


class MaskedLinear(WeightChange):
    """A projection to which the mask's values are added where they belong; `start` is its own first place."""

    def __init__(self, base: nn.Module, site: Site, mask: Mask, start: int):
        super().__init__(base, site)
        self.mask, self.start = mask, start

    def delta(self) -> Tensor:
        size = self.inputs * self.outputs
        place = self.mask.index.long() - self.start
        place = torch.where((place >= 0) & (place < size), place, size)  # other matrices' values: a slot that is cut
        flat = self.mask.values.new_zeros(size + 1).index_put((place,), self.mask.values)
        return flat[:-1].view(self.outputs, self.inputs)


@dataclass(frozen=True)
class SparseMask(Method):
    """What both masks have in common. They save storage and optimizer state, not the backward pass's memory.

    Attributes:
        share: the share of the targets' weights that is trained, 0.005 for half a percent.
        targets: names of projections; None for all. (The papers' masks may fall on other parameters too.)
    """

    share: float = 0.005
    targets: tuple[str, ...] | None = None

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1; got {self.share!r}")
        if self.targets is not None:
            require_names(targets=self.targets)

    @property
    def sites(self) -> tuple[str, ...]:
        return self.targets or PROJECTIONS

    @abstractmethod
    def index(self, anatomy: Anatomy, sites: list[Site]) -> Tensor:
        """The chosen places, (k,), in the sites' matrices laid end to end."""

    def _sites(self, anatomy: Anatomy) -> tuple[list[Site], list[int]]:
        """The target matrices and the number of weights in each."""
        sites = present(anatomy) if self.targets is None else anatomy.sites(self.targets)
        return sites, [inputs * outputs for inputs, outputs in map(features, sites)]

    def _top(self, scores: Tensor) -> Tensor:
        return scores.topk(self._kept(len(scores))).indices.sort().values

    def _kept(self, size: int) -> int:
        return max(1, round(self.share * size))

    def inject(self, anatomy: Anatomy) -> None:
        sites, sizes = self._sites(anatomy)
        mask = Mask(self.index(anatomy, sites).to(torch.int32 if sum(sizes) < 2**31 else torch.int64))
        starts = {site: sum(sizes[:number]) for number, site in enumerate(sites)}
        wrap(anatomy, sites, lambda base, site: MaskedLinear(base, site, mask, starts[site]))


@register(family="selective", paper="arXiv:2406.13175", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class MagnitudeMask(SparseMask):
    """Train the largest weights of each matrix: the same share of all, and no data needed to choose."""

    def index(self, anatomy: Anatomy, sites: list[Site]) -> Tensor:
        chosen, start = [], 0
        for site in sites:
            scores = matrix(site.module, site.third).detach().float().abs().reshape(-1)
            chosen.append(self._top(scores) + start)
            start += len(scores)
        return torch.cat(chosen)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """round(share · in · out) a target, at least 1."""
        return sum(map(self._kept, self._sites(anatomy)[1]))
