"""UniPELT (Mao et al. 2022, arXiv:2110.07577): prefix, LoRA and adapter together, each behind a gate.

A gate is sigmoid(w x + b), one number that says how much a part shall count, from what the part itself reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.attached import Attachment, attach
from peft_helpers.methods.attention_prefix import AttentionPrefix
from peft_helpers.methods.base import Method, register
from peft_helpers.methods.gates import Gate, PrefixGate, Watch
from peft_helpers.methods.hybrid import Hybrid, Part
from peft_helpers.methods.lora import LoRA
from peft_helpers.methods.pfeiffer import Pfeiffer
from peft_helpers.methods.prefix_tuning import PrefixTuning
from peft_helpers.methods.surgery import Wrapper


@register(family="hybrid", paper="arXiv:2110.07577", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class UniPELT(Hybrid):
    """Prefix, LoRA and Pfeiffer adapter with one gate for each of them in every layer, two for LoRA's two matrices.

    The paper's gates are means over a text's tokens, and its prefix gate scales the prefix's keys and values. Padding
    and later tokens would change those; here each token has gates of its own, and that of the prefix scales how much
    the token attends to it.

    Attributes:
        length, hidden: the prefix's l, and the width of the MLP that makes it in training (None for none).
        rank, bottleneck: of LoRA and of the adapter.
    """

    length: int = 10
    hidden: int | None = 512
    rank: int = 8
    bottleneck: int = 48
    sites = ("query", "value", "ffn_out")

    def __post_init__(self):
        self.parts_for(None)  # refuses what they refuse

    def parts_for(self, anatomy: Anatomy | None) -> list[Part]:
        prefix = PrefixTuning(length=self.length, hidden=self.hidden)
        return [Part(prefix), Part(LoRA(self.rank)), Part(Pfeiffer(self.bottleneck))]

    def as_stored(self) -> Method:
        return replace(self, hidden=None)

    def inject(self, anatomy: Anatomy) -> None:
        swaps = anatomy.model.adaptation.swaps
        before = len(swaps)
        super().inject(anatomy)
        for swap in swaps[before:]:
            if isinstance(swap.after, Wrapper):
                watch = Watch()
                attach(anatomy, swap.after.base, "watch", watch, swap.layer)
                attach(anatomy, swap.after, "gate", Gate(anatomy.width, watch), swap.layer)
            elif isinstance(swap.owner, Attachment) and isinstance(swap.owner.guest, AttentionPrefix):
                attach(anatomy, swap.owner.host, "gate", PrefixGate(anatomy.width), swap.layer)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """The parts', and D + 1 a gate; for BERT 4 L (D + 1)."""
        prefixes = sum(2 if "cross_query" in layer.sites else 1 for layer in anatomy.layers)
        gates = prefixes + len(anatomy.sites(self.sites))
        return super().parameter_count(anatomy) + gates * (anatomy.width + 1)
