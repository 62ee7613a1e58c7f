"""The scaled parallel adapter (He et al. 2022, arXiv:2110.04366, section 3.3): a second, small feed-forward block.

It reads what the feed-forward block reads, x, and adds to what that gives: h + s · up(relu(down(x))).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register, require_whole
from peft_helpers.methods.surgery import Wrapper, wrap


class Tap(Wrapper):
    """Passes the feed-forward block's input on, and lends it to the adapter that waits behind the block."""

    def __init__(self, base: nn.Module):
        super().__init__(base)
        self.lent: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.lent[:] = [x]
        return self.base(x)


class WithParallelAdapter(Wrapper):
    """The block's last projection, with the adapter's answer to the block's input added: (B, T, I) -> (B, T, D).

    Args:
        base: the projection from the feed-forward block's width I back to D.
        tap: where the block's input x, (B, T, D), comes from. It is used once and forgotten: nothing outlives a step.
        width, bottleneck, scale: D, m and s.
    """

    def __init__(self, base: nn.Module, tap: Tap, width: int, bottleneck: int, scale: float):
        super().__init__(base)
        self.taps, self.scale = (tap,), scale  # a tuple: the tap is part of the model in its own place
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, z: Tensor) -> Tensor:
        x, h = self.taps[0].lent.pop(), self.base(z)
        change = self.up(nn.functional.relu(self.down(x.float()))) * self.scale
        return h + change.to(h.dtype)


@register(family="additive", paper="arXiv:2110.04366", identity_at_init=True, mergeable=False)
@dataclass(frozen=True)
class ParallelAdapter(Method):
    """A scaled bottleneck beside every feed-forward block; it starts as LoRA does, with up = 0.

    Attributes:
        bottleneck: m; the paper's best combination (MAM) has 512.
        scale: s, 4 in the paper.
    """

    bottleneck: int = 64
    scale: float = 4.0
    sites = ("ffn_out",)

    def __post_init__(self):
        require_whole(bottleneck=self.bottleneck)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number; got {self.scale!r}")

    def inject(self, anatomy: Anatomy) -> None:
        taps = iter(wrap(anatomy, anatomy.sites(("ffn_in",)), lambda base, site: Tap(base)))

        def with_adapter(base, site):
            return WithParallelAdapter(base, next(taps), anatomy.width, self.bottleneck, self.scale)

        wrap(anatomy, anatomy.sites(self.sites), with_adapter)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """L (2 m D + D + m)."""
        m, width = self.bottleneck, anatomy.width
        return len(anatomy.layers) * (2 * m * width + width + m)
