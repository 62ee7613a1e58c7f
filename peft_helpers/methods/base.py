"""What a PEFT method is: some settings, a way to put itself into a model, and a formula for its size.

A method is one short file with one frozen dataclass, registered with the facts that tables and trees are made of. It
speaks of a model's parts by the names of `backbones.anatomy` only, so it works on every architecture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_helpers.backbones import Anatomy

FAMILIES = {
    "additive": "new modules or vectors; the pretrained weights stay as they are (adapters, prefixes, prompts)",
    "selective": "a subset of the pretrained parameters (biases, norms, some layers, a sparse mask)",
    "reparametrization": "a change of the weights within a small space (LoRA: matrices of low rank)",
    "hybrid": "several of these at once",
    "baseline": "no PEFT method, but what one is compared with",
}
REGISTRY: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Card:
    """What is known about a method before anything is run.

    Attributes:
        family: one of FAMILIES.
        paper: where it comes from, "arXiv:…".
        identity_at_init: True if a model answers bit for bit as before when the method has just been applied; a number
            is the largest change of a logit, relative to the largest logit, that the method is allowed.
        mergeable: True if what was learned can be folded into the pretrained weights, so that inference costs nothing.
    """

    family: str
    paper: str
    identity_at_init: bool | float
    mergeable: bool


class Method(ABC):
    """A method with its settings; subclasses are frozen dataclasses, and every setting has a default."""

    card: ClassVar[Card]

    @abstractmethod
    def inject(self, anatomy: Anatomy) -> None:
        """Put the method into a frozen model, with `surgery.wrap` (new modules) and `surgery.train` (base tensors).

        Afterwards exactly what is to be trained requires grad. The task head is not the method's: `apply` sees to it.
        """

    @abstractmethod
    def parameter_count(self, anatomy: Anatomy) -> int:
        """How many parameters the method trains, from a closed formula, without the task head."""

    @property
    def positions(self) -> int:
        """How many of the model's positions the method takes from the text: a prompt before it takes its length."""
        return 0

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the projections whose outputs the method changes by new modules; none for selective methods."""
        return ()

    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        """What a checkpoint holds, by name: every trained tensor (head included) and the buffers of new modules."""
        from peft_helpers.methods import surgery

        return surgery.trained_tensors(model) | surgery.own_buffers(model)

    def as_stored(self) -> Method:
        """The method that a checkpoint puts back: this one, or without what only training needs (a prefix's MLP)."""
        return self

    def settings(self) -> dict[str, Any]:
        return asdict(self)


Subclass = TypeVar("Subclass", bound=type[Method])


def register(
    *, family: str, paper: str, identity_at_init: bool | float, mergeable: bool
) -> Callable[[Subclass], Subclass]:
    """Class decorator: enter a method into the registry, under the name of its class.

    Raises:
        ValueError: there is no such family, the name is taken, or a setting has no default.
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}; there are {', '.join(FAMILIES)}")

    def enter(cls: Subclass) -> Subclass:
        if cls.__name__ in REGISTRY:
            raise ValueError(f"there is a method {cls.__name__!r} already")
        try:
            cls()
        except TypeError as error:
            raise ValueError(f"every setting of {cls.__name__} needs a default: {error}") from error
        cls.card = Card(family, paper, identity_at_init, mergeable)
        REGISTRY[cls.__name__] = cls
        return cls

    return enter


def available(family: str | None = None) -> list[str]:
    """The names of the registered methods, of one family or of all."""
    return [name for name, cls in REGISTRY.items() if family in (None, cls.card.family)]


def make(name: str, **settings: Any) -> Method:
    """A method by name: `make("LoRA", rank=4)` is `LoRA(rank=4)`. Lists, as JSON has them, become tuples.

    Raises:
        ValueError: there is no such method or setting, or a setting's value is impossible.
    """
    if name not in REGISTRY:
        raise ValueError(f"there is no method {name!r}; there are {', '.join(REGISTRY)}")
    known = {field.name for field in fields(REGISTRY[name])}
    if unknown := sorted(settings.keys() - known):
        raise ValueError(
            f"{name} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'no settings'}"
        )
    return REGISTRY[name](**{key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})


def require_whole(**sizes: int) -> None:
    """Refuse settings that are no positive whole numbers, by name."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a whole number from 1 on; got {size!r}")


def require_names(**names: tuple[str, ...]) -> None:
    """Refuse targets that are no tuple of names: of a plain string, a loop would see the letters."""
    for name, value in names.items():
        if not isinstance(value, tuple) or not value or not all(isinstance(part, str) for part in value):
            raise ValueError(f'{name} must be a tuple of names, like ("query", "value"); got {value!r}')
