"""Top-k layers: fine-tune the layers next to the head, freeze what lies below ("variable fine-tuning")."""

from __future__ import annotations

from dataclasses import dataclass

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_whole
from peft_helpers.methods.surgery import features, train


@register(family="selective", paper="arXiv:1902.00751", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class TopLayers(Method):
    """Train the last k layers whole, norms included (arXiv:1902.00751, section 3.3; FT-Top2 of arXiv:2101.00190).

    The backward pass ends at the lowest trained layer: of the methods here, only this and the head save compute.

    Attributes:
        layers: k. In an encoder-decoder the decoder's last layers come first; GPT-2's final norm stays frozen.
        pooler: train BERT's pooler too, which lies above the layers.
    """

    layers: int = 2
    pooler: bool = False

    def __post_init__(self):
        require_whole(layers=self.layers)

    def _parts(self, anatomy: Anatomy) -> tuple[list[Site], list[Site]]:
        """The projections and the norms of the last k layers."""
        if self.layers > len(anatomy.layers):
            raise ValueError(f"the model has {len(anatomy.layers)} layers; TopLayers(layers={self.layers}) wants more")
        if self.pooler and anatomy.pooler is None:
            raise ValueError(f"TopLayers(pooler=True): this {anatomy.architecture} has no pooler")
        top = anatomy.layers[-self.layers :]
        return [site for layer in top for site in layer.sites.values()], [site for layer in top for site in layer.norms]

    def inject(self, anatomy: Anatomy) -> None:
        projections, norms = self._parts(anatomy)
        sites = [*projections, *norms, *([anatomy.pooler] if self.pooler else [])]
        train(anatomy, [parameter for site in sites for parameter in site.module.parameters()])

    def parameter_count(self, anatomy: Anatomy) -> int:
        """For BERT k (4 (D² + D) + 2 D I + I + D + 4 D); in general in · out (+ out) a projection, 2 D or D a norm."""
        projections, norms = self._parts(anatomy)
        total = sum(parameter.numel() for norm in norms for parameter in norm.module.parameters())
        for site in projections:
            inputs, outputs = features(site)
            total += inputs * outputs + outputs * (site.module.bias is not None)
        return total + self.pooler * (anatomy.width**2 + anatomy.width)
