"""DoRA (Liu et al. 2024, arXiv:2402.09353, eq. 5): a weight's magnitude and its direction are learned apart.

W' = m * (W + s·B A) / ||W + s·B A||, with one norm and one magnitude m for each output. LoRA changes the direction, the
vector m, which starts as ||W||, sets the length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import register
from peft_helpers.methods.lora import LoRA, LoRALinear
from peft_helpers.methods.surgery import Rounded, Wrapper, features, wrap
from peft_helpers.methods.weight_change import matrix, widen


class DoRALinear(LoRALinear):
    """A projection with a learned magnitude for each output and a low-rank change of direction.

    Args: those of LoRALinear.
    """

    def __init__(self, base: nn.Module, site: Site, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__(base, site, rank, alpha, dropout)
        while isinstance(base, Wrapper):
            if not isinstance(base, Rounded) and getattr(base, "third", None) == self.third:
                raise ValueError(f"{site.path} is changed already; in a hybrid, DoRA comes before such parts")
            base = base.base
        self.magnitude = nn.Parameter(matrix(site.module, site.third).detach().float().norm(dim=1))

    @torch.no_grad()
    def direction(self) -> Tensor:
        """W + s·B A, (out, in)."""
        weight = matrix(self.innermost, self.third, like=self.weight)  # trained too, perhaps, by a hybrid's part
        return weight.float() + self.scale * self.up.weight @ self.down.weight

    def gain(self, direction: Tensor) -> Tensor:
        """m / ||W + s·B A||, (out,). The norm counts as a constant in the backward pass (the paper's section 4.3)."""
        return self.magnitude / direction.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)

    def forward(self, x: Tensor) -> Tensor:
        h = self.base(x)
        own, bias = (
            (h, self.bias) if self.third is None else (h.chunk(3, -1)[self.third], self.bias.chunk(3)[self.third])
        )
        gain = self.gain(self.direction())
        low_rank = self.up(self.down(self.dropout(x.float())) * self.scale)
        # W'x + b = gain (h - b + low_rank) + b, in few passes over (..., out)
        shift = gain.new_zeros(()) if bias is None else (1 - gain) * bias
        changed = torch.addcmul(shift, gain, own + low_rank)
        if self.third is None:
            return changed.to(h.dtype)
        return h + widen((changed - own).to(h.dtype), self.third)

    @torch.no_grad()
    def merge(self) -> None:
        direction = self.direction()
        matrix(self.innermost, self.third).copy_(self.gain(direction)[:, None] * direction)


@register(family="reparametrization", paper="arXiv:2402.09353", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class DoRA(LoRA):
    """LoRA, and a magnitude for each output of each target; the settings are LoRA's.

    The paper calls the norms column-wise: its W is (in, out). As in the paper's code and peft, dropout takes only the
    low-rank part, so the base's share of an output is never dropped.
    """

    def inject(self, anatomy: Anatomy) -> None:
        def with_dora(base, site):
            return DoRALinear(base, site, self.rank, self.alpha, self.dropout)

        wrap(anatomy, anatomy.sites(self.targets), with_dora)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """LoRA's r (in + out), and out, a target; for query and value of width D that is 4 L D r + 2 L D."""
        return super().parameter_count(anatomy) + sum(features(site)[1] for site in anatomy.sites(self.targets))
