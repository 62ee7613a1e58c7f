"""Vectors before the embeddings of a text: what prompt tuning and P-tuning have in common.

They hang on the network that reads the text (the encoder of an encoder-decoder): before it runs, the vectors are set
before the text's embeddings, and mask, positions and token types are extended; after it, their l hidden states are cut
off, so that a head, a pooler or a loss sees the text alone, as always. A decoder keeps the vectors in its cache: in the
steps after the first, only mask and positions grow.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.attached import Guest, attach
from peft_helpers.methods.positions import require_room, words

INITS = ("vocabulary", "random", "tokens")


class Prompt(Guest):
    """l vectors before the text of the host.

    Args:
        table: where they begin, (l, D).
        encoder: makes the vectors from the table, (l, D) -> (l, D); None if the table is the vectors.
        limit: the positions that the model has.
        keep: the vectors' hidden states stay, (B, l + T, D): a decoder's cross-attention reads them.
    """

    def __init__(self, table: Tensor, encoder: nn.Module | None, limit: int, keep: bool):
        super().__init__()
        self.table, self.encoder = nn.Parameter(table), encoder
        self.limit, self.keep, self.added = limit, keep, False

    def forward(self) -> Tensor:
        return self.table if self.encoder is None else self.encoder(self.table)

    def before(self, host: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        named = dict(zip(_arguments(type(host).forward), given, strict=False)) | named
        length, cache = len(self.table), named.get("past_key_values")
        past = 0 if cache is None else int(cache.get_seq_length())  # the vectors are among them
        self.added = past == 0
        new = named["inputs_embeds"] if named.get("input_ids") is None else named["input_ids"]
        tokens = new.shape[1] + (0 if self.added else past - length)
        if tokens + length > self.limit:
            raise ValueError(
                f"{tokens} tokens behind a prompt of {length} are more than the model's {self.limit} positions; "
                "cut the texts"
            )
        if (mask := named.get("attention_mask")) is not None:
            if mask.dim() != 2:
                raise ValueError(f"a prompt needs a mask of shape (B, T), to extend it; got {tuple(mask.shape)}")
            named["attention_mask"] = nn.functional.pad(mask, (length, 0), value=1)
        if (positions := named.get("position_ids")) is not None:
            positions = positions + length
            mine = torch.arange(length, device=positions.device).expand(len(positions), -1)
            named["position_ids"] = torch.cat([mine, positions], 1) if self.added else positions
        if self.added:
            self._put_before(host, named)
        return (), named

    def _put_before(self, host: nn.Module, named: dict[str, Any]) -> None:
        texts, ids = named.get("inputs_embeds"), named.get("input_ids")
        if texts is None:
            texts = host.get_input_embeddings()(ids)
        vectors = self().to(texts.dtype).expand(len(texts), -1, -1)
        named |= {"input_ids": None, "inputs_embeds": torch.cat([vectors, texts], 1)}
        if (types := named.get("token_type_ids")) is not None:
            named["token_type_ids"] = nn.functional.pad(types, (vectors.shape[1], 0))

    def after(self, host: nn.Module, given: tuple, named: dict[str, Any], output: Any) -> Any:
        if self.added and not self.keep:
            length = len(self.table)
            output.last_hidden_state = output.last_hidden_state[:, length:]
            if getattr(output, "hidden_states", None) is not None:
                output.hidden_states = tuple(states[:, length:] for states in output.hidden_states)
            if getattr(output, "pooler_output", None) is not None:  # it read the first vector, not [CLS]
                output.pooler_output = host.pooler(output.last_hidden_state)
        return output


@functools.cache  # once, not in each step; of the class, since a model would be kept alive
def _arguments(forward: Callable) -> tuple[str, ...]:
    """The names of a method's arguments, without `self`."""
    return tuple(inspect.signature(forward).parameters)[1:]


class OpenToPrompt(Guest):
    """Hangs on a decoder whose encoder has a prompt: its cross-attention sees the prompt's l hidden states."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length

    def before(self, host: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if (mask := named.get("encoder_attention_mask")) is not None:
            named = named | {"encoder_attention_mask": nn.functional.pad(mask, (self.length, 0), value=1)}
        return given, named


@torch.no_grad()
def beginning(anatomy: Anatomy, length: int, init: str, tokens: tuple[int, ...], std: float) -> Tensor:
    """Where the vectors begin, (l, D): embeddings of words drawn from the vocabulary, noise, or given words."""
    if init == "random":
        return std * torch.randn(length, anatomy.width)
    embed = anatomy.model.base_model.get_input_embeddings()
    ids = words(anatomy, tokens, length) if init == "tokens" else torch.randint(embed.num_embeddings, (length,))
    return embed(ids.to(embed.weight.device)).float().clone()


def put_prompt(anatomy: Anatomy, table: Tensor, encoder: nn.Module | None = None) -> None:
    """Hang l vectors on the network that reads the text.

    Raises:
        ValueError: they would leave no position for the text.
    """
    base, length = anatomy.model.base_model, len(table)
    limit = require_room(anatomy, length)
    two = base.config.is_encoder_decoder
    attach(anatomy, base.get_encoder() if two else base, "prompt", Prompt(table, encoder, limit, keep=two))
    if two:
        attach(anatomy, base.get_decoder(), "open_to_prompt", OpenToPrompt(length))


def require_init(init: str, tokens: tuple[int, ...], std: float) -> None:
    """Refuse impossible beginnings."""
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}; got {init!r}")
    if (init == "tokens") != bool(tokens):
        raise ValueError(f'init="tokens" and init_tokens go together; got {init!r}, {tokens!r}')
    if not 0 < std < float("inf"):
        raise ValueError(f"init_std must be a positive number; got {std!r}")
