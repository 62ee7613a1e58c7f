"""(IA)³ (Liu et al. 2022, arXiv:2205.05638, section 3.3): learned vectors rescale keys, values and inner activations.

softmax(q (l_k * k)ᵀ / √d) (l_v * v) in every attention, and W2 (l_ff * act(W1 x)) in every feed-forward block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_names
from peft_helpers.methods.surgery import Wrapper, features, wrap
from peft_helpers.methods.weight_change import matrix, present, widen


class ScaledOutput(Wrapper):
    """l * base(x): (..., in) -> (..., out). The vector l, (out,), starts as ones."""

    def __init__(self, base: nn.Module, site: Site):
        super().__init__(base)
        self.third = site.third
        self.scale = nn.Parameter(torch.ones(features(site)[1]))

    def forward(self, x: Tensor) -> Tensor:
        h = self.base(x)
        return (h * widen(self.scale, self.third, value=1.0)).to(h.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """W = diag(l) W, and b = l * b."""
        base = self.innermost
        weight, bias = matrix(base, self.third), base.bias
        weight.copy_(self.scale[:, None] * weight.float())
        if bias is not None:
            bias.copy_(widen(self.scale, self.third, value=1.0) * bias.float())


class ScaledInput(Wrapper):
    """base(l * x): (..., in) -> (..., out). The vector l, (in,), starts as ones."""

    def __init__(self, base: nn.Module, site: Site):
        super().__init__(base)
        self.scale = nn.Parameter(torch.ones(features(site)[0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.base((x * self.scale).to(x.dtype))

    @torch.no_grad()
    def merge(self) -> None:
        """W = W diag(l)."""
        weight = matrix(self.innermost)
        weight.copy_(weight.float() * self.scale)


@register(family="additive", paper="arXiv:2205.05638", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class IA3(Method):
    """Three vectors a layer, five in a decoder layer that also looks at an encoder.

    By default peft scales more than the paper: BERT's attention output too, and GPT-2's queries with keys and values.

    Attributes:
        keys_and_values: projections whose outputs are scaled; those that an architecture lacks are passed over.
        feed_forward: projections whose inputs are scaled.
    """

    keys_and_values: tuple[str, ...] = ("key", "value", "cross_key", "cross_value")
    feed_forward: tuple[str, ...] = ("ffn_out",)

    def __post_init__(self):
        require_names(keys_and_values=self.keys_and_values, feed_forward=self.feed_forward)

    @property
    def sites(self) -> tuple[str, ...]:
        return self.keys_and_values + self.feed_forward

    def inject(self, anatomy: Anatomy) -> None:
        wrap(anatomy, present(anatomy, self.keys_and_values), ScaledOutput)
        wrap(anatomy, present(anatomy, self.feed_forward), ScaledInput)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """The outputs of keys and values, the inputs of the blocks' last projections; for BERT L (2 D + I)."""
        outputs = sum(features(site)[1] for site in present(anatomy, self.keys_and_values))
        return outputs + sum(features(site)[0] for site in present(anatomy, self.feed_forward))
