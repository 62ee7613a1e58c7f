"""Published hybrids as compositions: the mix-and-match adapter (MAM) and a design found by search (S4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register
from peft_helpers.methods.bitfit import BitFit
from peft_helpers.methods.hybrid import Hybrid, Part
from peft_helpers.methods.lora import LoRA
from peft_helpers.methods.parallel import ParallelAdapter
from peft_helpers.methods.pfeiffer import Pfeiffer
from peft_helpers.methods.prefix_tuning import PrefixTuning


@register(family="hybrid", paper="arXiv:2110.04366", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class MAM(Hybrid):
    """A short prefix in attention, and a large scaled parallel adapter beside the feed-forward block.

    Attributes:
        length, hidden: the prefix's l, and the width of the MLP that makes it in training (None for none).
        bottleneck, scale: the adapter's m and s.
    """

    length: int = 30
    hidden: int | None = 800
    bottleneck: int = 512
    scale: float = 4.0
    sites = ParallelAdapter.sites

    def __post_init__(self):
        self.parts_for(None)  # refuses what they refuse

    def parts_for(self, anatomy: Anatomy | None) -> list[Part]:
        prefix = PrefixTuning(length=self.length, hidden=self.hidden)
        return [Part(prefix), Part(ParallelAdapter(self.bottleneck, self.scale))]

    def as_stored(self) -> Method:
        return replace(self, hidden=None)


def spindle(layers: int) -> list[range]:
    """Four groups of layers with more in the middle, 1 : 2 : 2 : 1; with fewer than four layers some are empty."""
    cuts = [round(layers * part / 6) for part in (0, 1, 3, 5, 6)]
    return [range(begin, end) for begin, end in pairwise(cuts)]


@register(family="hybrid", paper="arXiv:2301.01821", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class S4(Hybrid):
    """Layers in four groups, each with methods of its own: the layout that Chen et al. (2023) found by search.

    Adapter and LoRA in the first group, adapter and prefix in the second, adapter, prefix and biases in the third,
    prefix, biases and LoRA in the last. An encoder and a decoder have four groups each. The paper gives every layer the
    same number of parameters; here the sizes are settings.

    Attributes:
        bottleneck, length, rank: of the adapters (Pfeiffer's), prefixes and LoRA.
    """

    bottleneck: int = 48
    length: int = 10
    rank: int = 8
    sites = ("query", "value", "ffn_out")

    def __post_init__(self):
        self._methods()  # refuses what they refuse

    def _methods(self) -> list[tuple[Method, tuple[int, ...]]]:
        """The methods, and the groups that have them."""
        prefix = PrefixTuning(length=self.length, hidden=None)
        adapter, lora = Pfeiffer(self.bottleneck), LoRA(self.rank)
        return [(adapter, (0, 1, 2)), (lora, (0, 3)), (BitFit(), (2, 3)), (prefix, (1, 2, 3))]

    def groups(self, anatomy: Anatomy) -> list[list[int]]:
        """The numbers of the layers of each group."""
        groups: list[list[int]] = [[], [], [], []]
        for stack in dict.fromkeys(layer.stack for layer in anatomy.layers):
            numbers = [number for number, layer in enumerate(anatomy.layers) if layer.stack == stack]
            for group, chosen in zip(groups, spindle(len(numbers)), strict=True):
                group += [numbers[index] for index in chosen]
        return groups

    def parts_for(self, anatomy: Anatomy) -> list[Part]:
        groups = self.groups(anatomy)
        parts = [Part(m, tuple(sorted(n for group in where for n in groups[group]))) for m, where in self._methods()]
        return [part for part in parts if part.layers]
