"""Infix: keys and values between the source and the target of a decoder, [x; INFIX; y] (arXiv:2101.00190, section 6.3).

Attention does not know an order of keys, so an infix is a prefix that the source can't see: its columns of the mask are
open from a separating token on. The separator itself sees it, because there the target's first token is chosen.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.attached import Guest, attach


class OpenFrom(Guest):
    """Hangs on a decoder and tells its attention, by keyword, which queries see the infix, (B, 1, T, 1).

    Args:
        separator: the id of the token from which on the infix is seen, the first in a text.
    """

    def __init__(self, separator: int):
        super().__init__()
        self.separator = separator

    def before(self, host: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        ids, cache = named.get("input_ids", given[0] if given else None), named.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            return given, named  # the source was read in an earlier step; what is written now sees the infix
        if ids is None:
            raise ValueError("an infix needs token ids, to find the separator; the model got embeddings")
        seen = (ids == self.separator).cumsum(1) > 0
        if not seen[:, -1].all():
            raise ValueError(f"an infix stands at the token {self.separator}, and a text of this batch has none")
        return given, named | {"prefix_open": seen[:, None, :, None]}


def hide_from_source(anatomy: Anatomy, separator: int) -> None:
    """Let the prefixes of this decoder be seen from the separator on.

    Raises:
        ValueError: the model is no decoder; an encoder reads all at once, and an encoder-decoder has two texts.
    """
    if {layer.stack for layer in anatomy.layers} != {"decoder"}:
        raise ValueError(f"an infix stands between source and target of a decoder; {anatomy.architecture} is none")
    attach(anatomy, anatomy.model.base_model, "infix", OpenFrom(separator))
