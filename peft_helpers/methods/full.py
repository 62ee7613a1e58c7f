"""Full fine-tuning: every weight of the model is trained. What all PEFT methods are measured against."""

from __future__ import annotations

from dataclasses import dataclass

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register
from peft_helpers.methods.surgery import count, task_head, train


@register(family="baseline", paper="arXiv:1810.04805", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class FullFineTuning(Method):
    """Train everything (BERT's recipe). The pretrained weights are kept beside the trained ones, for `disabled`."""

    def inject(self, anatomy: Anatomy) -> None:
        train(anatomy, anatomy.model.parameters())

    def parameter_count(self, anatomy: Anatomy) -> int:
        """Embeddings, norms, every projection of every layer, the pooler, and a language model's own head."""
        sites = [*anatomy.embeddings, *anatomy.layer_norms(), *([anatomy.pooler] if anatomy.pooler else [])]
        sites += [site for layer in anatomy.layers for site in layer.sites.values()]
        new = task_head(anatomy)
        return count([*sites, *(site for site in anatomy.head if site not in new)])
