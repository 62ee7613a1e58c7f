"""Hybrids: several methods in one model, each in all layers or in some (He et al. 2022, arXiv:2110.04366).

    Compose((LoRA(8), BitFit()))
    Compose((Part(Pfeiffer(16), layers=(0, 1)), Part(LoRA(8), layers=(2, 3))))

Nothing is written anew: each part puts itself into the layers that it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Card, Method, make, register
from peft_helpers.methods.hybrid import Hybrid, Part
from peft_helpers.methods.lora import LoRA
from peft_helpers.methods.parallel import ParallelAdapter


def _part(one: Part | Method | Mapping[str, Any]) -> Part:
    """A part from whatever describes it: itself, a method, or a row of `Compose.settings`."""
    if isinstance(one, Mapping):
        layers = one.get("layers")
        return Part(make(one["method"], **one["settings"]), None if layers is None else tuple(layers))
    if not isinstance(one, Part | Method):
        raise ValueError(f"a part is a method, or Part(method, layers); got {one!r}")
    return one if isinstance(one, Part) else Part(one)


@register(family="hybrid", paper="arXiv:2110.04366", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class Compose(Hybrid):
    """Any methods together. The card is the parts': mergeable if all are, the identity at first if all are.

    Attributes:
        parts: methods, or Parts, which say for which layers; at least one.
    """

    parts: tuple[Part | Method, ...] = (LoRA(), ParallelAdapter())

    def __post_init__(self):
        if not isinstance(self.parts, tuple) or not self.parts:
            raise ValueError(f"parts must be a tuple of methods, like (LoRA(), BitFit()); got {self.parts!r}")
        parts = tuple(_part(one) for one in self.parts)
        cards = [part.method.card for part in parts]
        away = sum(card.identity_at_init for card in cards if card.identity_at_init is not True)
        identity = False if any(card.identity_at_init is False for card in cards) else away or True
        mergeable = all(card.mergeable for card in cards)
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "card", Card("hybrid", "arXiv:2110.04366", identity, mergeable))

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts for name in part.method.sites))

    @property
    def positions(self) -> int:
        return sum(part.method.positions for part in self.parts)

    def parts_for(self, anatomy: Anatomy) -> list[Part]:
        return list(self.parts)

    def as_stored(self) -> Compose:
        return Compose(tuple(replace(part, method=part.method.as_stored()) for part in self.parts))

    def settings(self) -> dict[str, Any]:
        """The parts by name, as JSON can have them."""
        return {
            "parts": [
                {"method": type(part.method).__name__, "settings": part.method.settings(), "layers": part.layers}
                for part in self.parts
            ]
        }
