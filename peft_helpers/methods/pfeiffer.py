"""Pfeiffer adapters (Pfeiffer et al. 2021, arXiv:2005.00247): one bottleneck a layer, behind the feed-forward block."""

from __future__ import annotations

from dataclasses import dataclass

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register, require_whole
from peft_helpers.methods.houlsby import ACTIVATIONS, BottleneckAdapter, WithAdapter, require_spread
from peft_helpers.methods.surgery import wrap


@register(family="additive", paper="arXiv:2005.00247", identity_at_init=0.02, mergeable=False)
@dataclass(frozen=True)
class Pfeiffer(Method):
    """Half of Houlsby's adapters, and the layer norms stay frozen: about half the parameters and half the extra time.

    Here the adapter reads the feed-forward block's output, as in Houlsby. The adapters library (`SeqBnConfig`) lets it
    read that output after the residual sum and the layer's norm, and adds its bottleneck before both.

    Attributes:
        bottleneck: m; 48 is D / 16 for BERT-base, the library's default.
        activation: "relu", "gelu" or "silu".
    """

    bottleneck: int = 48
    init_std: float = 1e-2
    activation: str = "relu"
    sites = ("ffn_out",)

    def __post_init__(self):
        require_whole(bottleneck=self.bottleneck)
        require_spread(self.init_std)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")

    def inject(self, anatomy: Anatomy) -> None:
        def with_adapter(base, site):
            adapter = BottleneckAdapter(anatomy.width, self.bottleneck, self.init_std, self.activation)
            return WithAdapter(base, adapter)

        wrap(anatomy, anatomy.sites(self.sites), with_adapter)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """L (2 m D + D + m)."""
        m, width = self.bottleneck, anatomy.width
        return len(anatomy.layers) * (2 * m * width + width + m)
