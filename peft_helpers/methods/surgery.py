"""How a method gets into a model, and out of it again: new modules around old ones, trained copies for frozen tensors.

Everything a method changes is a *swap*: an attribute of some object holds `after` instead of `before`. The old module
or tensor is kept as it is, never written to, so putting it back restores the base bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from peft_helpers.backbones import Anatomy, Site
    from peft_helpers.methods.base import Method


class Wrapper(nn.Module):
    """A module that stands in the place of `base` and calls it. It does not subclass, so the base stays whole.

    Some models read a projection's weight or bias directly; they see the base's.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base

    @property
    def innermost(self) -> nn.Module:
        """The model's own module, under all the wrappers."""
        return self.base.innermost if isinstance(self.base, Wrapper) else self.base

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def merge(self) -> None:
        """Fold what was learned into the base's weight; only wrappers of mergeable methods can."""
        raise NotImplementedError(f"{type(self).__name__} has no merge")


class Rounded(Wrapper):
    """A 16-bit module that computes with float32 tensors, rounded to its own type wherever they are used.

    Args:
        base: the module; its own tensors stay as they are.
        trained: name -> float32 tensor that takes the place of the base's.
    """

    def __init__(self, base: nn.Module, trained: dict[str, nn.Parameter]):
        super().__init__(base)
        self.trained = nn.ParameterDict(trained)

    def rounded(self) -> dict[str, Tensor]:
        return {name: tensor.to(getattr(self.base, name).dtype) for name, tensor in self.trained.items()}

    @property
    def weight(self) -> Tensor:
        return self.rounded().get("weight", self.base.weight)

    @property
    def bias(self) -> Tensor | None:
        return self.rounded().get("bias", self.base.bias)

    def forward(self, *given, **named):
        return torch.func.functional_call(self.base, self.rounded(), given, named)

    @torch.no_grad()
    def merge(self) -> None:
        for name, tensor in self.rounded().items():
            getattr(self.base, name).copy_(tensor)


@dataclass
class Swap:
    """`owner.name` was `before` and is `after`; `layer` is the layer's number for a module wrapped by a method."""

    owner: Any
    name: str
    before: Any
    after: Any
    layer: int | None = None

    def undo(self) -> None:
        _put(self.owner, self.name, self.before, self.after)

    def redo(self) -> None:
        _put(self.owner, self.name, self.after, self.before)


def _put(owner: Any, name: str, incoming: Any, outgoing: Any) -> None:
    """Exchange; what comes in follows what goes out to its device and mode, which may have changed in between."""
    if isinstance(outgoing, nn.Parameter) and incoming.device != outgoing.device:
        incoming.data = incoming.data.to(outgoing.device)
    elif isinstance(outgoing, nn.Module):
        incoming.to(next(outgoing.parameters()).device).train(outgoing.training)
    setattr(owner, name, incoming)


@dataclass
class Adaptation:
    """What a model carries, as `model.adaptation`, from `apply` until `merge` or `remove`.

    Attributes:
        method, anatomy: what was applied, and the parts of the model as they were before.
        trainable_before: the parameters that required grad before; removal gives that back.
        swaps: every change, in order.
        active: False within `disabled`.
        backbone_hash: computed when it is first asked for; the base does not change meanwhile.
    """

    method: Method
    anatomy: Anatomy
    trainable_before: list[nn.Parameter]
    swaps: list[Swap] = field(default_factory=list)
    active: bool = True
    backbone_hash: str | None = None

    def swap(self, owner: Any, name: str, after: Any, layer: int | None = None) -> None:
        self.swaps.append(Swap(owner, name, getattr(owner, name), after, layer))
        self.swaps[-1].redo()

    def take_out(self) -> None:
        for swap in reversed(self.swaps):
            swap.undo()

    def put_in(self) -> None:
        for swap in self.swaps:
            swap.redo()


def wrap(anatomy: Anatomy, sites: Iterable[Site], make: Callable[[nn.Module, Site], Wrapper]) -> list[Wrapper]:
    """Put a new module around each of these sites; returns the new modules.

    Args:
        make: (module, site) -> wrapper. The module is the site's own, or an earlier wrapper of it: GPT-2's query and
            value are thirds of one matrix, so each wraps what the other left. `site.module` is always the base.
    """
    adaptation, made = anatomy.model.adaptation, []
    for site in sites:
        above, _, name = site.path.rpartition(".")
        owner = anatomy.model.get_submodule(above)
        layers = adaptation.anatomy.layers  # all of them, though a part of a hybrid may see some only
        layer = next((i for i, one in enumerate(layers) if site in (*one.sites.values(), *one.norms)), None)
        wrapper = make(getattr(owner, name), site)
        adaptation.swap(owner, name, wrapper, layer)  # moves the wrapper to the base's device
        made.append(wrapper)
    return made


def train(anatomy: Anatomy, parameters: Iterable[nn.Parameter]) -> None:
    """Train these tensors of the base: each is replaced by a float32 copy, and the original is kept as it is.

    A tensor that several modules share (tied embeddings) gets one copy that they share. A 16-bit module is wrapped, so
    that the optimizer sees float32 and the model 16 bits.

    Raises:
        ValueError: one of them holds a quantized weight's codes.
    """
    adaptation, model = anatomy.model.adaptation, anatomy.model
    parameters = list(parameters)
    if whole := sorted({str(p.dtype).removeprefix("torch.") for p in parameters if not p.is_floating_point()}):
        raise ValueError(f"quantized weights ({', '.join(whole)}) can't be trained; train something beside them (LoRA)")
    copies = {id(p): nn.Parameter(p.detach().to(torch.float32, copy=True)) for p in parameters if not p.requires_grad}
    places = [(owner, name, module) for owner in model.modules() for name, module in owner.named_children()]
    for owner, place, module in places:
        chosen = {name: copies[id(p)] for name, p in module.named_parameters(recurse=False) if id(p) in copies}
        if isinstance(owner, Rounded):  # some tensors of this module are trained already
            owner.trained.update({name: copy for name, copy in chosen.items() if name not in owner.trained})
        elif any(getattr(module, name).dtype is not torch.float32 for name in chosen):
            adaptation.swap(owner, place, Rounded(module, chosen))
        else:
            for name, copy in chosen.items():
                adaptation.swap(module, name, copy)


# ---------------------------------------------------------------- names, shapes and counts


def plain_name(name: str) -> str:
    """A trained tensor's name as it is in a float32 model, so that a checkpoint does not depend on the precision."""
    return name.replace(".trained.", ".")


def trained_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Everything that requires grad, by plain name; a shared tensor once."""
    return {plain_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def own_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The persistent buffers of wrappers (an index, a fixed random matrix), without those of the modules they wrap.

    What several wrappers share is in it once, like a shared parameter in `named_parameters`.
    """
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, Wrapper):
            kept = module.state_dict().keys()
            for name, buffer in module.named_buffers():
                if name in kept and not name.startswith("base.") and id(buffer) not in map(id, found.values()):
                    found[f"{path}.{name}"] = buffer
    return found


def features(site: Site) -> tuple[int, int]:
    """(inputs, outputs) of a projection; GPT-2's Conv1D keeps its weight as (in, out), a third has a third of it."""
    shape = tuple(site.module.weight.shape)
    inputs, outputs = shape if isinstance(site.module, Conv1D) else shape[::-1]
    return inputs, outputs if site.third is None else outputs // 3


def count(sites: Iterable[Site]) -> int:
    """The parameters of these parts; a tensor in two of them counts once."""
    return sum({id(p): p.numel() for site in sites for p in site.module.parameters()}.values())


def task_head(anatomy: Anatomy) -> list[Site]:
    """The new head that every method trains; not a language model's, which is pretrained and often tied."""
    language_head = getattr(anatomy.model, "get_output_embeddings", lambda: None)()
    base = {id(p) for p in anatomy.model.base_model.parameters()}
    return [
        site
        for site in anatomy.head
        if site.module is not language_head and not any(id(p) in base for p in site.module.parameters())
    ]
