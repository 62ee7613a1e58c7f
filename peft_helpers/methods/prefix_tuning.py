"""Prefix-tuning (Li and Liang 2021, arXiv:2101.00190, section 4): l learned keys and values before the text's own.

They stand in every attention of every layer, so no layer's input is changed: [PREFIX; x; y] in a decoder, and
[PREFIX; x; PREFIX'; y] in an encoder-decoder, whose cross-attention has a prefix of its own too. (Vectors before the
embeddings only are prompt tuning.) In training an MLP may make the prefix from a small table; what it makes is all that
is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.attention_prefix import activations, places, use_prefix_attention
from peft_helpers.methods.base import Method, register, require_names, require_whole
from peft_helpers.methods.infix import hide_from_source
from peft_helpers.methods.positions import require_room, shift_positions, words
from peft_helpers.methods.prefix_mlp import MLPPrefix, Prefix, Trunk, without_mlp

INITS = ("random", "zero", "activations")


@register(family="additive", paper="arXiv:2101.00190", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class PrefixTuning(Method):
    """A prefix in every attention. It takes no position of the text unless `shift_positions` says so.

    Attributes:
        length: l, how many keys and values.
        hidden: h, the width of the MLP that makes them in training (512 in the paper's code); None for none.
        init: "random", "zero" (no way to leave the model as it is: a zero key still takes its share of the attention;
            and without the MLP all slots stay alike) or "activations" of real words, best with few examples.
        init_tokens: the real words as token ids, repeated or cut to l; for init="activations" only.
        init_std: standard deviation of random keys and values; for init="random" without the MLP.
        parts: which attentions, of "encoder", "decoder" and "cross"; None for all that there are.
        shift_positions: the text begins at position l, as in peft, instead of 0; a text must then be l tokens shorter.
        infix_after: a token's id; then [x; INFIX; y]: what stands before that token does not see the keys and values.
    """

    length: int = 10
    hidden: int | None = 512
    init: str = "random"
    init_tokens: tuple[int, ...] = ()
    init_std: float = 0.02
    parts: tuple[str, ...] | None = None
    shift_positions: bool = False
    infix_after: int | None = None

    def __post_init__(self):
        require_whole(length=self.length, **({} if self.hidden is None else {"hidden": self.hidden}))
        if self.init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}; got {self.init!r}")
        if (self.init == "activations") != bool(self.init_tokens):
            raise ValueError(f'init="activations" and init_tokens go together; got {self.init!r}, {self.init_tokens!r}')
        if not 0 < self.init_std < float("inf"):
            raise ValueError(f"init_std must be a positive number; got {self.init_std!r}")
        if self.parts is not None:
            require_names(parts=self.parts)
        if self.infix_after is not None and self.shift_positions:
            raise ValueError("infix_after and shift_positions exclude each other: the source stands before the infix")

    @property
    def positions(self) -> int:
        return self.length if self.shift_positions else 0

    def _start(self, anatomy: Anatomy, where: list) -> list[tuple[Tensor, Tensor]]:
        """Keys and values to begin with, (l, K) each, for every place."""
        if self.init == "activations":
            return activations(anatomy, where, words(anatomy, self.init_tokens, self.length))
        std = self.init_std if self.init == "random" else 0.0
        return [tuple(std * torch.randn(self.length, place.width) for _ in range(2)) for place in where]

    def inject(self, anatomy: Anatomy) -> None:
        where = places(anatomy, self.parts)
        require_room(anatomy, self.length)
        use_prefix_attention(anatomy)
        trunks: dict[str, Trunk] = {}
        for place, start in zip(where, self._start(anatomy, where), strict=True):
            if self.hidden is None:
                prefix = Prefix(*start)
            else:
                first = place.part not in trunks
                trunk = trunks.setdefault(place.part, Trunk(self.length, anatomy.width, self.hidden))
                prefix = MLPPrefix(trunk, place.width, None if self.init == "random" else start, first)
            place.put(anatomy, prefix)
        if self.shift_positions:
            shift_positions(anatomy, self.length)
        if self.infix_after is not None:
            hide_from_source(anatomy, self.infix_after)

    def parameter_count(self, anatomy: Anatomy) -> int:
        """2 l L D; with the MLP l D + D h + h for a part's trunk, and 2 L D (h + 1). D is the width of the keys."""
        where, l, h = places(anatomy, self.parts), self.length, self.hidden  # noqa: E741
        if h is None:
            return sum(2 * l * place.width for place in where)
        trunk = l * anatomy.width + anatomy.width * h + h
        return trunk * len({place.part for place in where}) + sum(2 * place.width * (h + 1) for place in where)

    def as_stored(self) -> PrefixTuning:
        """Without the MLP, and without the words, whose activations would be computed only to be overwritten."""
        return replace(self, hidden=None, init="random", init_tokens=())

    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        """The keys and values themselves, 2 l L D numbers, and the head."""
        return without_mlp(model, super().stored(model))
