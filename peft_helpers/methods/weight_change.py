"""What methods that change a weight matrix share: W x + dW x beside a frozen projection, and adding dW to W at the end.

A projection is an `nn.Linear`, whose weight is (out, in), GPT-2's Conv1D, whose weight is (in, out), or a third of
GPT-2's fused query-key-value matrix. Methods see (out, in) in all three cases.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peft_helpers.backbones import ARCHITECTURES, Anatomy, Site
from peft_helpers.methods.surgery import Wrapper, features

PROJECTIONS = tuple(
    dict.fromkeys(
        name
        for row in ARCHITECTURES.values()
        for stack in row.stacks.values()
        for name in (*(stack.fused[1] if stack.fused else ()), *stack.parts)
    )
)


def present(anatomy: Anatomy, names: tuple[str, ...] = PROJECTIONS) -> list[Site]:
    """The sites with these names, layer by layer; unlike `anatomy.sites`, names that the model lacks are passed over.

    Raises:
        ValueError: the model has none of them.
    """
    found = [layer.sites[name] for layer in anatomy.layers for name in names if name in layer.sites]
    return found or anatomy.sites(names)


def matrix(module: nn.Module, third: int | None = None, like: Tensor | None = None) -> Tensor:
    """A plain projection's weight, or something of its shape, as (out, in); a view, so it can be written to."""
    weight = module.weight if like is None else like
    weight = weight.T if isinstance(module, Conv1D) else weight
    return weight if third is None else weight.chunk(3)[third]


def widen(change: Tensor, third: int | None, value: float = 0.0) -> Tensor:
    """(..., D) for one third of a fused matrix's outputs -> (..., 3 D), with `value` for the other two thirds."""
    if third is None:
        return change
    width = change.shape[-1]
    return nn.functional.pad(change, (third * width, (2 - third) * width), value=value)


class WeightChange(Wrapper):
    """A projection with a changed weight: (..., in) -> (..., out), h = base(x) + dW x, computed in float32.

    Subclasses define `delta`, and `change` where dW x can be had in less than a multiplication with dW.

    Args:
        base: the projection, or an earlier wrapper of it.
        site: the projection's place.
    """

    def __init__(self, base: nn.Module, site: Site):
        super().__init__(base)
        self.inputs, self.outputs = features(site)
        self.third = site.third

    def delta(self) -> Tensor:
        """dW, (out, in)."""
        raise NotImplementedError

    def change(self, x: Tensor) -> Tensor:
        """dW x: (..., in) -> (..., out)."""
        return nn.functional.linear(x, self.delta())

    def forward(self, x: Tensor) -> Tensor:
        h = self.base(x)
        return h + widen(self.change(x.float()).to(h.dtype), self.third)

    @torch.no_grad()
    def merge(self) -> None:
        """W += dW, added in float32."""
        weight = matrix(self.innermost, self.third)
        weight.copy_(weight.float() + self.delta())
