"""Prompt tuning (Lester et al. 2021, arXiv:2104.08691): l trained vectors before the embeddings of the text.

Only the input is changed, where prefix-tuning has keys and values in every layer; each layer computes the prompt's
states too. The logits of the prompt's positions are never made: the network gives the states of the text alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register, require_whole
from peft_helpers.methods.input_prompt import beginning, put_prompt, require_init


@register(family="additive", paper="arXiv:2104.08691", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class PromptTuning(Method):
    """Vectors before the text. They take the first l positions, so a text can be l tokens shorter.

    A classifier reads what it reads without a prompt: BERT's pooler the [CLS] behind it, not the first vector.

    Attributes:
        length: l; the paper finds 20 enough for most models.
        init: "vocabulary" (embeddings of words drawn at random), "random" (noise) or "tokens" (given words); with small
            models the first and the last are far better than noise (section 3.2).
        init_tokens: token ids, repeated or cut to l; for init="tokens" only.
        init_std: standard deviation of the noise.
    """

    length: int = 20
    init: str = "vocabulary"
    init_tokens: tuple[int, ...] = ()
    init_std: float = 0.02

    def __post_init__(self):
        require_whole(length=self.length)
        require_init(self.init, self.init_tokens, self.init_std)

    @property
    def positions(self) -> int:
        return self.length

    def inject(self, anatomy: Anatomy) -> None:
        put_prompt(anatomy, beginning(anatomy, self.length, self.init, self.init_tokens, self.init_std))

    def parameter_count(self, anatomy: Anatomy) -> int:
        """l D."""
        return self.length * anatomy.width
