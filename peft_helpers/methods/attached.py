"""A module that hangs on another by hooks: where a wrapper would hide the parts of the one it stands around.

A wrapper is for a projection. Around a whole attention or a whole network it would change the paths of everything
inside, and other methods, checkpoints and the anatomy would not find it. A guest changes what its host gets and gives.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from peft_helpers.backbones import Anatomy


class Guest(nn.Module):
    """Called before and after its host; both see the arguments, positional and named."""

    def before(self, host: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The arguments that the host gets instead."""
        return given, named

    def after(self, host: nn.Module, given: tuple, named: dict[str, Any], output: Any) -> Any:
        """The output that the host gives instead."""
        return output


class Attachment:
    """A guest and its host, as a swap's owner: `on` makes the guest a submodule of the host, or takes it out."""

    def __init__(self, host: nn.Module, name: str, guest: Guest):
        self.host, self.name, self.guest, self.handles = host, name, guest, []

    @property
    def on(self) -> bool:
        return bool(self.handles)

    @on.setter
    def on(self, on: bool) -> None:
        host, guest = self.host, self.guest
        if on:
            like = next(host.parameters(), None)
            guest.to(None if like is None else like.device).train(host.training)
            host.add_module(self.name, guest)
            before = host.register_forward_pre_hook(guest.before, with_kwargs=True)
            self.handles = [before, host.register_forward_hook(guest.after, with_kwargs=True)]
        else:
            for handle in self.handles:
                handle.remove()
            self.handles = []
            delattr(host, self.name)

    def replace(self, guest: Guest) -> None:
        """Another guest in the place of this one."""
        self.on, self.guest = False, guest
        self.on = True


def attach(anatomy: Anatomy, host: nn.Module, name: str, guest: Guest, layer: int | None = None) -> None:
    """Let a guest hang on a part of the model, until `disabled` or `remove`.

    Args:
        name: the guest's, as a submodule of the host.
        layer: the number of the layer that it belongs to, for `disabled(model, layers=…)`.
    """
    if hasattr(host, name):
        raise ValueError(f"{type(host).__name__} has a {name} already")
    anatomy.model.adaptation.swap(Attachment(host, name, guest), "on", True, layer)


def attachments(model: nn.Module) -> list[Attachment]:
    """What hangs on the model's parts."""
    return [swap.owner for swap in model.adaptation.swaps if isinstance(swap.owner, Attachment)]
