"""Head only: the backbone is frozen, only the new task head is trained on what it gives (a linear probe)."""

from __future__ import annotations

from dataclasses import dataclass

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register


@register(family="baseline", paper="arXiv:1610.01644", identity_at_init=True, mergeable=True)
@dataclass(frozen=True)
class HeadOnly(Method):
    """Train the head and nothing else; what the backbone already knows is all there is.

    For a BERT classifier that is a linear probe on the pooler's output. RoBERTa's and BART's heads have a hidden layer.
    """

    def inject(self, anatomy: Anatomy) -> None:
        pass

    def parameter_count(self, anatomy: Anatomy) -> int:
        """0: the head is every method's, and not counted here."""
        return 0
