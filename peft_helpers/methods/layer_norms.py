"""Layer-norm tuning: train the scale and shift of every layer norm, the ablation of arXiv:1902.00751, section 3.4."""

from __future__ import annotations

from dataclasses import dataclass

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register
from peft_helpers.methods.surgery import count, train


@register(family="selective", paper="arXiv:1902.00751", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class LayerNormTuning(Method):
    """Train every layer norm: the embeddings', the layers', a final one. Llama's have a scale and no shift."""

    def inject(self, anatomy: Anatomy) -> None:
        train(anatomy, [parameter for norm in anatomy.layer_norms() for parameter in norm.module.parameters()])

    def parameter_count(self, anatomy: Anatomy) -> int:
        """2 D a layer norm, D an RMS norm; for BERT 2 D (2 L + 1)."""
        return count(anatomy.layer_norms())
