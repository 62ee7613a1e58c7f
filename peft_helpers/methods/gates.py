"""Gates: sigmoid(w x + b), one number a token that says how much a part of a hybrid shall count (arXiv:2110.07577)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers.methods.attached import Guest
from peft_helpers.methods.attention_prefix import Lent
from peft_helpers.methods.houlsby import WithAdapter


class Watch(Guest):
    """Lends what its host has given to the gate that waits for it; used once and forgotten."""

    def __init__(self):
        super().__init__()
        self.lent: list[Tensor] = []

    def after(self, host: nn.Module, given: tuple, named: dict[str, Any], output: Tensor) -> Tensor:
        self.lent[:] = [output]
        return output


class Gate(Guest):
    """On a wrapper: h + g (h' - h), where h' is the wrapper's output and h that of what it wraps. D + 1 parameters.

    A LoRA's gate reads what the projection reads, x; an adapter's what the adapter reads, h.
    """

    def __init__(self, width: int, watch: Watch):
        super().__init__()
        self.linear, self.watches = nn.Linear(width, 1), (watch,)

    def after(self, host: nn.Module, given: tuple, named: dict[str, Any], output: Tensor) -> Tensor:
        h = self.watches[0].lent.pop()
        gate = torch.sigmoid(self.linear((h if isinstance(host, WithAdapter) else given[0]).float()))
        return h + (gate * (output - h)).to(h.dtype)


class GatedPrefix(Lent):
    """A prefix to whose scores log g is added: each token's attention weights on it are multiplied by the token's g."""

    def __init__(self, lent: Lent, log_gate: Tensor):
        super().__init__(lent.key, lent.value)
        self.log_gate = log_gate  # (B, T, 1)

    def extend(self, key: Tensor, value: Tensor, mask: Tensor | None, *more) -> tuple[Tensor, Tensor, Tensor]:
        texts = key.shape[2]
        key, value, mask = super().extend(key, value, mask, *more)
        log_gate = nn.functional.pad(self.log_gate.to(key.dtype).expand(-1, -1, len(self.key)), (0, texts))[:, None]
        if mask is not None and mask.dtype is torch.bool:
            mask = torch.zeros_like(mask, dtype=key.dtype).masked_fill(~mask, torch.finfo(key.dtype).min)
        return key, value, log_gate if mask is None else mask + log_gate


class PrefixGate(Guest):
    """On an attention module, after its prefix: reads the states that the attention reads, (B, T, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def before(self, host: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        states = given[0] if given else named["hidden_states"]
        log_gate = nn.functional.logsigmoid(self.linear(states.float()))
        return given, named | {"prefix": GatedPrefix(named["prefix"], log_gate)}
