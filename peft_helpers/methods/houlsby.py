"""Houlsby adapters (Houlsby et al. 2019, arXiv:1902.00751, section 2.1): two small bottlenecks in every layer.

One stands behind the projection back to width D after attention, one behind that after the feed-forward block, both
before the residual sum. Layer norms and the head are trained with them, a pooler stays frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register, require_whole
from peft_helpers.methods.surgery import Wrapper, count, train, wrap

ACTIVATIONS = {"gelu": nn.functional.gelu, "relu": nn.functional.relu, "silu": nn.functional.silu}


class BottleneckAdapter(nn.Module):
    """h + up(activation(down(h))): a residual bottleneck that starts close to the identity.

    Shape: (..., D) -> (..., D). Parameters: 2·m·D + D + m.

    Args:
        width: D, the width of the hidden states.
        bottleneck: m, usually far smaller than D.
        init_std: standard deviation of the truncated normal; the paper finds training stable below 1e-2.
        activation: one of ACTIVATIONS.
    """

    def __init__(self, width: int, bottleneck: int, init_std: float = 1e-2, activation: str = "gelu"):
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.activation = ACTIVATIONS[activation]
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=init_std, a=-2 * init_std, b=2 * init_std)
            nn.init.zeros_(linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.up(self.activation(self.down(h)))


class WithAdapter(Wrapper):
    """A projection with an adapter on its output; the adapter computes in float32, like all that is trained."""

    def __init__(self, base: nn.Module, adapter: BottleneckAdapter):
        super().__init__(base)
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        h = self.base(x)
        return self.adapter(h.float()).to(h.dtype)


def require_spread(init_std: float) -> None:
    """Refuse a standard deviation from which nothing can be learned (0: every gradient but one is 0) or drawn."""
    if not 0 < init_std < float("inf"):
        raise ValueError(f"init_std must be a positive number, usually 1e-3 to 1e-2; got {init_std!r}")


@register(family="additive", paper="arXiv:1902.00751", identity_at_init=0.02, mergeable=False)
@dataclass(frozen=True)
class Houlsby(Method):
    """Adapters after attention and after the feed-forward block of every layer; all layer norms trained.

    The paper's code puts the adapter behind the projection's dropout, here it stands before it; without dropout, at
    inference, that is the same.

    Attributes:
        bottleneck: m; the paper tries 8, 64 and 256.
        init_std: 1e-2 in the paper's text, 1e-3 in its code.
    """

    bottleneck: int = 64
    init_std: float = 1e-2
    sites = ("attention_output", "ffn_out")

    def __post_init__(self):
        require_whole(bottleneck=self.bottleneck)
        require_spread(self.init_std)

    def inject(self, anatomy: Anatomy) -> None:
        def with_adapter(base, site):
            return WithAdapter(base, BottleneckAdapter(anatomy.width, self.bottleneck, self.init_std))

        wrap(anatomy, anatomy.sites(self.sites), with_adapter)
        train(anatomy, [parameter for norm in anatomy.layer_norms() for parameter in norm.module.parameters()])

    def parameter_count(self, anatomy: Anatomy) -> int:
        """2 L (2 m D + D + m), and the layer norms: for BERT 2 D (2 L + 1)."""
        m, width = self.bottleneck, anatomy.width
        return 2 * len(anatomy.layers) * (2 * m * width + width + m) + count(anatomy.layer_norms())
