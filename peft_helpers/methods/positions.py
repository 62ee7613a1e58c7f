"""Positions: a text behind a prefix begins at position 0, as if the prefix were not there, or at position l.

Both are in use: peft counts the prefix as text, which makes the longest text l tokens shorter; others don't. Where
positions are relative (Llama), only the prefix sees a difference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.attached import Guest, attach

POSITIONS = {  # the modules that turn positions into numbers, relative to the base model
    "bert": ("embeddings.position_embeddings",),
    "roberta": ("embeddings.position_embeddings",),
    "gpt2": ("wpe",),
    "bart": ("encoder.embed_positions", "decoder.embed_positions"),
    "llama": ("rotary_emb",),
}


class Shift(Guest):
    """Moves the positions of a text l up.

    Args:
        length, limit: l, and how many positions the model has.
        counts: the host gets tokens, the number of those before them, and perhaps positions; else positions.
        cached: the text may go on from a cache, so that the largest position tells its length, not the tokens given.
    """

    def __init__(self, length: int, limit: int, counts: bool, cached: bool):
        super().__init__()
        self.length, self.limit, self.counts, self.cached = length, limit, counts, cached

    def before(self, host: nn.Module, given: tuple, named: dict) -> tuple[tuple, dict]:
        first, *rest = given
        positions = named.get("position_ids")
        shown = first if positions is None else positions
        tokens = shown.shape[-1]
        if self.counts and positions is None:
            tokens += int(rest[0]) if rest else 0
        elif self.cached and not host.training:  # a GPU's queue is waited for; in training there is nothing cached
            tokens = int(shown.max()) + 1
        if tokens + self.length > self.limit:
            raise ValueError(
                f"{tokens} tokens behind a prefix of {self.length} positions are more than the model's {self.limit}"
            )
        if positions is not None:
            named = named | {"position_ids": positions + self.length}
        elif self.counts:
            rest = [(rest[0] if rest else 0) + self.length, *rest[1:]]
        else:
            first = first + self.length
        return (first, *rest), named


def words(anatomy: Anatomy, tokens: tuple[int, ...], length: int) -> Tensor:
    """These tokens repeated or cut to l, (l,).

    Raises:
        ValueError: one is no token of the model.
    """
    table = anatomy.model.base_model.get_input_embeddings().weight
    if wrong := [token for token in tokens if not 0 <= token < len(table)]:
        raise ValueError(f"{', '.join(map(str, wrong))} is no token; the model has 0 to {len(table) - 1}")
    return torch.tensor(tokens, device=table.device).repeat(length // len(tokens) + 1)[:length]


def require_room(anatomy: Anatomy, length: int) -> int:
    """How many positions the model has.

    Raises:
        ValueError: l are all of them, or more.
    """
    limit = anatomy.model.base_model.config.max_position_embeddings
    if anatomy.architecture == "roberta":
        limit -= 2  # its positions begin behind the padding id
    if length >= limit:
        raise ValueError(f"length must be below the model's {limit} positions; got {length}")
    return limit


def shift_positions(anatomy: Anatomy, length: int) -> None:
    """Let every text begin at position l.

    Raises:
        ValueError: there is no text left then, or the architecture has no row in `POSITIONS`.
    """
    limit = require_room(anatomy, length)
    if anatomy.architecture not in POSITIONS:
        raise ValueError(f"where {anatomy.architecture} has its positions is not known; use shift_positions=False")
    for path in POSITIONS[anatomy.architecture]:
        shift = Shift(
            length,
            limit,
            counts=anatomy.architecture == "bart",
            cached=anatomy.architecture in ("gpt2", "bart", "llama"),
        )
        attach(anatomy, anatomy.model.base_model.get_submodule(path), "shift", shift)
