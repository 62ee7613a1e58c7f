"""BitFit (Ben-Zaken et al. 2022, arXiv:2106.10199): train the biases, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method, register, require_names
from peft_helpers.methods.surgery import features, train


@register(family="selective", paper="arXiv:2106.10199", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class BitFit(Method):
    """Train every bias of the backbone: projections, layer norms and pooler.

    A key's bias gets no gradient: it adds the same number to all scores of a query, and softmax does not see that.

    Attributes:
        targets: train only the biases of these projections; the paper's smaller variant is ("query", "ffn_in"). None
            for all.
    """

    targets: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.targets is not None:
            require_names(targets=self.targets)

    def _biases(self, anatomy: Anatomy) -> list[nn.Parameter]:
        """The bias vectors to train.

        Raises:
            ValueError: the backbone has no biases (Llama, T5), or a target has none of its own.
        """
        everything = self.targets is None
        named = [item for site in self._parts(anatomy) for item in site.module.named_parameters()]
        biases = [parameter for name, parameter in named if name.rpartition(".")[2] == "bias"]
        if not biases:
            where = "anywhere" if everything else f"in {', '.join(self.targets)}"
            raise ValueError(f"BitFit trains biases, and this {anatomy.architecture} has no biases {where}")
        return biases

    def _parts(self, anatomy: Anatomy) -> list[Site]:
        """What has the biases: the targets, or projections, norms and pooler."""
        if self.targets is not None:
            return self._targets(anatomy)
        projections = [site for layer in anatomy.layers for site in layer.sites.values()]
        return [*projections, *anatomy.layer_norms(), *([anatomy.pooler] if anatomy.pooler else [])]

    def _targets(self, anatomy: Anatomy) -> list[Site]:
        sites = anatomy.sites(self.targets)
        if fused := sorted({site.name for site in sites if site.third is not None}):
            raise ValueError(
                f"{', '.join(fused)} of {anatomy.architecture} share one bias vector with others; "
                "BitFit trains whole vectors: use targets=None, or others"
            )
        return sites

    def inject(self, anatomy: Anatomy) -> None:
        train(anatomy, self._biases(anatomy))

    def parameter_count(self, anatomy: Anatomy) -> int:
        """One number an output of a projection, D a layer norm, D for a pooler; for BERT D + L (7 D + I) + D.

        BERT: the norm of the embeddings D; a layer's query, key, value and attention output 4 D, its feed-forward block
        I + D, its two norms 2 D; the pooler D.
        """
        if self.targets is not None:
            return sum(features(site)[1] for site in self._targets(anatomy))
        projections = [site for layer in anatomy.layers for site in layer.sites.values()]
        with_bias = [features(site)[1] for site in projections if site.module.bias is not None]
        norms = [anatomy.width for norm in anatomy.layer_norms() if getattr(norm.module, "bias", None) is not None]
        return sum(with_bias) + sum(norms) + (anatomy.width if anatomy.pooler else 0)
