"""FISH (Sung et al. 2021, arXiv:2111.09839): a sparse mask over the weights with the most Fisher information."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers import backbones
from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods import fisher
from peft_helpers.methods.base import register, require_whole
from peft_helpers.methods.sparse_mask import SparseMask
from peft_helpers.methods.weight_change import matrix


@register(family="selective", paper="arXiv:2111.09839", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class FishMask(SparseMask):
    """Train the weights with the largest Fisher information, wherever they are.

    `FishMask().measured(model, batches)` takes it from the task's own texts, as the paper does. Applied without that,
    the method measures it on texts of random tokens.

    Attributes:
        samples, seed: how many random texts, and what draws them.
        information: what `measured` found; no setting, the mask itself is in the checkpoint.
    """

    samples: int = 16
    seed: int = 0
    information: dict[str, Tensor] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        super().__post_init__()
        require_whole(samples=self.samples)

    def measured(self, model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> FishMask:
        """The same method, with the Fisher information of these texts; see `fisher.information`."""
        sites, _ = self._sites(backbones.anatomy(model))
        return replace(self, information=fisher.information(model, sites, batches, self.seed))

    def settings(self) -> dict[str, Any]:
        return {"share": self.share, "targets": self.targets, "samples": self.samples, "seed": self.seed}

    def index(self, anatomy: Anatomy, sites: list[Site]) -> Tensor:
        found = self.information
        if found is None:
            texts = fisher.random_texts(anatomy.model, self.samples, self.seed)
            found = fisher.information(anatomy.model, sites, texts, self.seed)
        if missing := sorted({site.path for site in sites} - found.keys()):
            raise ValueError(f"the Fisher information was measured on another model or other targets: no {missing[0]}")
        return self._top(torch.cat([matrix(s.module, s.third, found[s.path]).reshape(-1) for s in sites]))

    def parameter_count(self, anatomy: Anatomy) -> int:
        """round(share · (in · out, over all targets)), at least 1."""
        return self._kept(sum(self._sites(anatomy)[1]))
