"""What a method made of others is: parts, each shown the whole model or some layers of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods import surgery
from peft_helpers.methods.base import Method


@dataclass(frozen=True)
class Part:
    """A method and the layers that it is for, numbered from 0 (an encoder's before a decoder's); None for all.

    With layers given, what stands outside of them (embeddings, a final norm, a pooler) is left alone.
    """

    method: Method
    layers: tuple[int, ...] | None = None

    def seen(self, anatomy: Anatomy) -> Anatomy:
        """What the method is shown of the model."""
        if self.layers is None:
            return anatomy
        if unknown := [number for number in self.layers if not 0 <= number < len(anatomy.layers)]:
            raise ValueError(f"the model has layers 0 to {len(anatomy.layers) - 1}; got {unknown} for {self.method}")
        layers = tuple(anatomy.layers[number] for number in self.layers)
        return replace(anatomy, layers=layers, embeddings=(), norms=(), pooler=None)


def _trained(anatomy: Anatomy) -> int:
    return sum(p.numel() for p in surgery.trained_tensors(anatomy.model).values())


class Hybrid(Method):
    """A method made of others."""

    @abstractmethod
    def parts_for(self, anatomy: Anatomy) -> list[Part]:
        """The parts, in the order in which they are put in; a later one stands around an earlier one."""

    def inject(self, anatomy: Anatomy) -> None:
        """Put in part after part; a ValueError says that one does not fit, or that two train the same tensor."""
        for part in self.parts_for(anatomy):
            before = _trained(anatomy)
            part.method.inject(part.seen(anatomy))
            new, alone = _trained(anatomy) - before, part.method.parameter_count(part.seen(anatomy))
            if new != alone:
                raise ValueError(
                    f"{part.method} overlaps with a part before it: of {alone} parameters, only {new} are new"
                )

    def parameter_count(self, anatomy: Anatomy) -> int:
        """The sum of the parts'."""
        return sum(part.method.parameter_count(part.seen(anatomy)) for part in self.parts_for(anatomy))

    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        """What the parts store; each may exchange tensors of its own for others (a prefix does)."""
        together = plain = super().stored(model)
        for part in self.parts_for(model.adaptation.anatomy):
            found = part.method.stored(model)
            together = {name: tensor for name, tensor in together.items() if name in found or name not in plain}
            together |= {name: tensor for name, tensor in found.items() if name not in plain}
        return together
