"""A prefix inside attention: l learned keys and values before a text's own, by transformers' public AttentionInterface.

The prefix hangs on an attention module and lends itself to the attention function, by keyword. That function is ours,
put in under a name of its own for SDPA and for eager attention: it sets the prefix before keys and values, extends the
mask by l open columns, and goes on as usual. Text and cache keep their lengths, so generation needs nothing else.

Two things that go wrong silently elsewhere: SDPA without a mask cuts the keys to as many as there are queries, so that
the last l keys *of the text* vanish (a causal mask is therefore always made); and an attention function that knows no
prefix ignores it (the prefix therefore asks for a receipt).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from peft_helpers.backbones import Anatomy, Layer
from peft_helpers.methods.attached import Attachment, Guest, attach
from peft_helpers.methods.surgery import features

NAMES = {"sdpa": "sdpa_with_prefix", "eager": "eager_with_prefix"}


class Lent:
    """Keys and values for one call of attention, (l, H · D_head) each; `taken` is the receipt."""

    def __init__(self, key: Tensor, value: Tensor):
        self.key, self.value, self.taken = key, value, False

    def extend(
        self, key: Tensor, value: Tensor, mask: Tensor | None, opened: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Before keys and values of a text, (B, H, T, D_head), and in the mask, whose last dimension is T.

        Args:
            opened: for an infix, the queries that see it, (B, 1, T, 1); None for all.
        """
        self.taken, length = True, len(self.key)

        def before(mine: Tensor, texts: Tensor) -> Tensor:
            batch, heads, _, width = texts.shape
            mine = mine.to(texts.dtype).view(length, heads, width).transpose(0, 1)
            return torch.cat([mine.expand(batch, -1, -1, -1), texts], 2)

        if mask is not None:  # boolean: True is open; a number: 0 is open
            mask = nn.functional.pad(mask, (length, 0), value=mask.dtype is torch.bool)
            if opened is not None:
                closed = ~opened & (torch.arange(mask.shape[-1], device=mask.device) < length)
                mask = mask.masked_fill(closed, False if mask.dtype is torch.bool else torch.finfo(mask.dtype).min)
        return before(self.key, key), before(self.value, value), mask


class AttentionPrefix(Guest):
    """A guest of an attention module; its forward gives keys and values, (l, H · D_head) each."""

    def lend(self) -> Lent:
        return Lent(*self())

    def before(self, host: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return given, named | {"prefix": self.lend()}

    def after(self, host: nn.Module, given: tuple, named: dict[str, Any], output: Any) -> Any:
        if not named["prefix"].taken:
            raise ValueError(
                "the attention function ignored the prefix: the model's attention was set after the method was "
                f"applied. Set it to {' or '.join(NAMES)} first, then apply; other implementations take no prefix"
            )
        return output


class Recorder(AttentionPrefix):
    """In a prefix's place: it adds nothing, and keeps what keys and values a text has, (T, H · D_head)."""

    taken = True

    def lend(self) -> Recorder:
        return self

    def extend(self, key: Tensor, value: Tensor, mask: Tensor | None, opened: Tensor | None = None):
        self.seen = tuple(states[0].transpose(0, 1).flatten(1).float() for states in (key, value))
        return key, value, mask


# ---------------------------------------------------------------- the attention functions


def _sdpa(module, query, key, value, mask, prefix: Lent | None = None, prefix_open: Tensor | None = None, **named):
    if mask is None and query.shape[2] > 1 and getattr(module, "is_causal", False):
        raise RuntimeError("causal attention came without its mask; the prefix would push text out of sight")
    if prefix is not None:
        key, value, mask = prefix.extend(key, value, mask, prefix_open)
    return AttentionInterface()["sdpa"](module, query, key, value, mask, **(named | {"is_causal": False}))


def _eager(
    module, query, key, value, mask, prefix=None, prefix_open=None, scaling=None, dropout: float = 0.0, **named
) -> tuple[Tensor, Tensor]:
    """The plain formula, for who wants the attention weights too: (B, H, T, l + T)."""
    if prefix is not None:
        key, value, mask = prefix.extend(key, value, mask, prefix_open)
    groups = query.shape[1] // key.shape[1]  # queries that share a key
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = scores if mask is None else scores + mask
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    weights = nn.functional.dropout(weights, dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _sdpa_mask(*given, **named):
    """Always a mask for causal attention; a single query may do without, but not with a half-filled static cache."""
    queries = named["q_length"] if "q_length" in named else len(named["cache_position"])  # transformers before 5.4
    named["allow_is_causal_skip"] = named.get("allow_is_causal_skip", True) and queries == 1
    return AttentionMaskInterface()["sdpa"](*given, **named)


AttentionInterface.register(NAMES["sdpa"], _sdpa)
AttentionInterface.register(NAMES["eager"], _eager)
AttentionMaskInterface.register(NAMES["sdpa"], _sdpa_mask)
AttentionMaskInterface.register(NAMES["eager"], AttentionMaskInterface()["eager"])


class AttentionName:
    """The name of the attention function that a model uses, as an attribute that a swap can exchange."""

    def __init__(self, model: nn.Module):
        self.model = model

    @property
    def name(self) -> str:
        return self.model.config._attn_implementation  # transformers has a setter for it, and no public way to read it

    @name.setter
    def name(self, name: str) -> None:
        self.model.set_attn_implementation(name)


def use_prefix_attention(anatomy: Anatomy) -> None:
    """Give the model an attention function that takes prefixes; `disabled` and `remove` give the old one back.

    Raises:
        ValueError: the model uses neither SDPA nor eager attention.
    """
    owner = AttentionName(anatomy.model.base_model)
    if owner.name in NAMES.values():  # another part of a hybrid has a prefix too
        return
    if owner.name not in NAMES:
        raise ValueError(
            f"prefixes work with {' and '.join(NAMES)} attention; this model uses {owner.name!r}, whose kernel takes "
            'no mask over more keys than the text has. Load it with attn_implementation="sdpa"'
        )
    anatomy.model.adaptation.swap(owner, "name", NAMES[owner.name])


# ---------------------------------------------------------------- places


@dataclass(frozen=True)
class Place:
    """An attention module: its part ("encoder", "decoder" or "cross"), layer, path, and the width of its keys."""

    part: str
    layer: Layer
    path: str
    width: int

    def put(self, anatomy: Anatomy, prefix: AttentionPrefix) -> None:
        """Hang this prefix on the attention module, until `disabled` or `remove`."""
        number = anatomy.model.adaptation.anatomy.layers.index(self.layer)
        attach(anatomy, anatomy.model.get_submodule(self.path), "prefix", prefix, number)


def places(anatomy: Anatomy, parts: tuple[str, ...] | None = None) -> list[Place]:
    """The attention modules of these parts, None for all.

    Raises:
        ValueError: the backbone has no attention of such a part, or none that the anatomy knows.
    """
    found = []
    for layer in anatomy.layers:
        for part, before in ((layer.stack, ""), ("cross", "cross_")):
            if {f"{before}query", f"{before}key"} <= layer.sites.keys():
                path = layer.sites[f"{before}query"].path.rpartition(".")[0]
                found.append(Place(part, layer, path, features(layer.sites[f"{before}key"])[1]))
    if not found:
        raise ValueError(f"the anatomy of {anatomy.architecture} names no query and key; a prefix has no place in it")
    known = list(dict.fromkeys(place.part for place in found))
    if unknown := [part for part in parts or () if part not in known]:
        raise ValueError(f"{anatomy.architecture} has no {', '.join(unknown)} attention; it has {', '.join(known)}")
    return [place for place in found if parts is None or place.part in parts]


@torch.no_grad()
def activations(anatomy: Anatomy, where: list[Place], tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values, (T, H · D_head) each, that the base model computes for these tokens, (T,), at each place."""
    base, recorders = anatomy.model.base_model, [Recorder() for _ in where]
    with evaluating(base), contextlib.ExitStack() as restore:
        for place, recorder in zip(where, recorders, strict=True):
            one = Attachment(anatomy.model.get_submodule(place.path), "prefix", recorder)
            one.on = True
            restore.callback(setattr, one, "on", False)
        base(input_ids=tokens[None].to(next(base.parameters()).device))
    return [recorder.seen for recorder in recorders]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it the model is in eval mode, so that nothing is dropped out."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
