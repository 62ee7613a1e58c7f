"""What can be done with a method and a model: apply, disabled, merge, remove."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from peft_helpers import backbones
from peft_helpers.methods import surgery
from peft_helpers.methods.base import Method
from peft_helpers.methods.surgery import Adaptation, Wrapper


def apply(model: nn.Module, method: Method) -> nn.Module:
    """Freeze the model, put the method into it, and enable the task head; what then requires grad is trained.

    New tensors are drawn from torch's global random state: `torch.manual_seed` makes them repeatable. The model is
    changed in place, and returned.

    Raises:
        ValueError: the model carries a method already, has no anatomy, or the method does not fit it. The model is
            then as it was.
    """
    if not isinstance(method, Method):
        raise ValueError(f"apply needs a method with its settings, like LoRA(rank=8); got {method!r}")
    if hasattr(model, "adaptation"):
        raise ValueError(f"the model carries {model.adaptation.method} already; remove(model) takes it out")
    anatomy = backbones.anatomy(model)
    before = list(model.parameters())
    model.adaptation = Adaptation(method, anatomy, [p for p in before if p.requires_grad])
    model.requires_grad_(False)
    try:
        method.inject(anatomy)
        for site in surgery.task_head(anatomy):
            surgery.train(anatomy, site.module.parameters())
        _check(model, method, before)
    except BaseException:
        remove(model)
        raise
    return model


def _check(model: nn.Module, method: Method, before: list[nn.Parameter]) -> None:
    """Hold the method to its promises; a mistake here would only show as a slightly worse score."""
    trained, base = surgery.trained_tensors(model), {id(p) for p in before}
    if not trained:
        raise ValueError(f"{method} trains nothing here: the method adds no parameter, and the model has no task head")
    if stray := [name for name, p in trained.items() if id(p) in base]:
        raise ValueError(f"{method} trains {', '.join(stray)} in place; surgery.train would keep the original")
    if half := [f"{name} ({p.dtype})" for name, p in trained.items() if p.dtype is not torch.float32]:
        raise ValueError(f"what is trained must be float32, small steps don't move 16-bit weights: {', '.join(half)}")


def carried(model: nn.Module) -> Adaptation:
    """What `apply` has put into the model.

    Raises:
        ValueError: the model carries no method, or it is disabled just now.
    """
    if not hasattr(model, "adaptation"):
        raise ValueError("the model carries no method; methods.apply(model, method) puts one in")
    if not model.adaptation.active:
        raise ValueError("the model's method is disabled just now; do this outside of `with disabled(model)`")
    return model.adaptation


@contextlib.contextmanager
def disabled(model: nn.Module, layers: Iterable[int] | None = None) -> Iterator[nn.Module]:
    """Within it the model is the base as it was before `apply`, bit for bit, untrained head included.

    Args:
        layers: take out only the new modules in these layers, numbered from 0 (an encoder's before a decoder's);
            trained norms and head stay (the ablation of arXiv:1902.00751, section 3.6).

    Raises:
        ValueError: the model carries no method, is disabled already, or has no such layer.
    """
    adaptation = carried(model)
    if layers is None:
        swaps = adaptation.swaps
    else:
        layers, known = set(layers), len(adaptation.anatomy.layers)
        if not layers <= set(range(known)):
            raise ValueError(f"the model has layers 0 to {known - 1}; got {sorted(layers)}")
        swaps = [swap for swap in adaptation.swaps if swap.layer in layers]
    for swap in reversed(swaps):
        swap.undo()
    adaptation.active = False
    try:
        yield model
    finally:
        for swap in swaps:
            swap.redo()
        adaptation.active = True


def remove(model: nn.Module) -> nn.Module:
    """Take the method out: the model is as before `apply`. What was trained is lost unless it was saved."""
    adaptation = carried(model)
    adaptation.take_out()
    for parameter in adaptation.trainable_before:
        parameter.requires_grad_(True)
    del model.adaptation
    return model


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Fold what was learned into the base: a plain model with the same answers, and no extra cost at inference.

    Changes of a weight are added in float32 and rounded to the weight's own type. There is no way back.

    Raises:
        ValueError: the method can't be merged (an adapter's nonlinearity is no matrix), or its base is quantized.
    """
    adaptation = carried(model)
    if not adaptation.method.card.mergeable:
        raise ValueError(f"{adaptation.method} can't be merged: what it computes is no change of a weight matrix")
    flags = {id(p) for p in adaptation.trainable_before}
    wrappers = [swap.after for swap in adaptation.swaps if isinstance(swap.after, Wrapper)]
    if any(not p.is_floating_point() for wrapper in wrappers for p in wrapper.innermost.parameters()):
        raise ValueError("nothing can be added to a quantized weight; quantization.restore(model) makes it float first")
    for wrapper in sorted(wrappers, key=lambda one: not isinstance(one, surgery.Rounded)):
        wrapper.merge()  # trained weights first, then what stands around them, from the inside out
    for swap in reversed(adaptation.swaps):
        if isinstance(swap.after, Wrapper):
            swap.undo()
        elif isinstance(swap.after, nn.Parameter):
            swap.after.requires_grad_(id(swap.before) in flags)
    for parameter in adaptation.trainable_before:
        parameter.requires_grad_(True)
    del model.adaptation
    return model
