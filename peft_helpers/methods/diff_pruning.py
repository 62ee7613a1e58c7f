"""Diff pruning (Guo et al. 2021, arXiv:2012.07463): learn a change of every weight, and that most changes are zero.

W' = W + z * w. Each weight has its own gate z in [0, 1], a hard-concrete variable (arXiv:1712.01312): it is exactly 0
or 1 most of the time, and still has a gradient. A penalty on the number of open gates joins the loss: here a hook adds
its gradient, so that it acts in every training loop. Twice the weights are trained, half a percent of them is stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import register
from peft_helpers.methods.sparse_mask import MagnitudeMask, Mask, MaskedLinear
from peft_helpers.methods.surgery import wrap
from peft_helpers.methods.weight_change import WeightChange

LOW, HIGH = -1.5, 1.5  # where the sigmoid is stretched to before it is cut off; then P(z > 0) = sigmoid(alpha)


@torch.no_grad()
def opening(alpha: Tensor) -> Tensor:
    """d sigmoid(alpha) / d alpha: how fast the probability of an open gate grows."""
    return torch.sigmoid(alpha) * torch.sigmoid(-alpha)


class DiffLinear(WeightChange):
    """A projection with a gated change: in training the gates are drawn, at inference the k largest changes count."""

    def __init__(self, base: nn.Module, site: Site, kept: int, method: DiffPruning):
        super().__init__(base, site)
        self.diff = nn.Parameter(torch.zeros(self.outputs, self.inputs))
        self.gate = nn.Parameter(torch.zeros(self.outputs, self.inputs))
        self.kept, self.method = kept, method

    def alpha(self) -> Tensor:
        return self.method.start + self.method.gate_speed * self.gate

    def largest(self) -> tuple[Tensor, Tensor]:
        """The k largest changes, gates without noise: (values, places in the matrix), (k,) each."""
        changes = ((LOW + (HIGH - LOW) * self.alpha().sigmoid()).clamp(0, 1) * self.diff).reshape(-1)
        place = changes.abs().topk(self.kept).indices
        return changes[place], place

    def delta(self) -> Tensor:
        """z * w: in training z = clamp(LOW + (HIGH - LOW) sigmoid(log u - log(1 - u) + alpha), 0, 1), u uniform."""
        if not self.training:
            values, place = self.largest()
            return torch.zeros_like(self.diff).view(-1).index_put((place,), values).view_as(self.diff)
        alpha, noise = self.alpha(), torch.logit(torch.rand_like(self.gate), eps=1e-6)
        if alpha.requires_grad:  # what comes from above, and the gradient of penalty · sum(sigmoid(alpha))
            pull = self.method.penalty * opening(alpha)
            alpha.register_hook(lambda above: above + pull)
        return (LOW + (HIGH - LOW) * torch.sigmoid(noise + alpha)).clamp(0, 1) * self.diff

    def merge(self) -> None:
        self.eval()
        super().merge()


@register(family="selective", paper="arXiv:2012.07463", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class DiffPruning(MagnitudeMask):
    """A sparse change whose places are learned with its values; afterwards each matrix keeps its largest changes.

    The paper has one more gate a matrix ("structured"), and keeps the largest of all matrices together. Its last step,
    training the kept values on, is to load the saved method and fit again. The penalty is in no reported loss.

    Attributes:
        penalty, start: lambda, the price of an open gate, and alpha at first; both as in the paper's code.
        gate_speed: how much faster alpha moves than w; in the paper's code gates have an optimizer of their own.
        projected: only the kept values, at fixed places; what a checkpoint holds.
    """

    penalty: float = 1.25e-7
    start: float = 5.0
    gate_speed: float = 300.0
    projected: bool = False

    def __post_init__(self):
        super().__post_init__()
        given = self.penalty, self.gate_speed, self.start
        if not (0 <= given[0] < math.inf and 0 < given[1] < math.inf and math.isfinite(given[2])):
            raise ValueError(f"penalty must be 0 or more, gate_speed above 0, start finite; got {given}")

    def inject(self, anatomy: Anatomy) -> None:
        sites, sizes = self._sites(anatomy)
        kept = dict(zip(sites, map(self._kept, sizes), strict=True))

        def with_diff(base, site):
            mask = Mask(torch.arange(kept[site], dtype=torch.int32))
            return MaskedLinear(base, site, mask, 0) if self.projected else DiffLinear(base, site, kept[site], self)

        wrap(anatomy, sites, with_diff)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """2 · in · out a target, w and alpha; stored is round(share · in · out), at least 1."""
        return super().parameter_count(anatomy) if self.projected else 2 * sum(self._sites(anatomy)[1])

    def as_stored(self) -> DiffPruning:
        return replace(self, projected=True)

    @torch.no_grad()
    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        found = super().stored(model)
        for path, one in model.named_modules():
            if isinstance(one, DiffLinear):
                del found[f"{path}.diff"], found[f"{path}.gate"]
                values, place = one.largest()
                found |= {f"{path}.mask.values": values, f"{path}.mask.index": place.to(torch.int32)}
        return found
