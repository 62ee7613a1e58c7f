"""P-tuning (Liu et al. 2021, arXiv:2103.10385, section 3): an encoder makes the vectors before the text.

Vectors trained one by one don't know of each other; a bidirectional LSTM with an MLP behind it ties them together. Only
what the encoder makes is kept after training. (P-tuning v2, arXiv:2110.07602, is a prefix in every layer.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.base import Method, register, require_whole
from peft_helpers.methods.input_prompt import Prompt, beginning, put_prompt

ENCODERS = ("lstm", "mlp")


class LSTMEncoder(nn.Module):
    """Two bidirectional layers and an MLP: (l, D) -> (l, 2 h) -> (l, D)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(2 * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, width))

    def forward(self, table: Tensor) -> Tensor:
        return self.mlp(self.lstm(table[None])[0][0])


def mlp_encoder(width: int, hidden: int) -> nn.Module:
    """(l, D) -> (l, h) -> (l, h) -> (l, D), each vector for itself."""
    layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width)]
    return nn.Sequential(*layers)


@register(family="additive", paper="arXiv:2103.10385", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class PTuning(Method):
    """Vectors before the text that an encoder makes from a trained table.

    They all stand before the text; the paper also sets some between the parts of a template.

    Attributes:
        length: l.
        encoder: "lstm" or "mlp"; None for vectors trained by themselves, which is what a checkpoint holds.
        hidden: h, the encoder's width; an LSTM's two directions have h each.
    """

    length: int = 20
    encoder: str | None = "lstm"
    hidden: int = 128

    def __post_init__(self):
        require_whole(length=self.length, hidden=self.hidden)
        if self.encoder not in (None, *ENCODERS):
            raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, or None; got {self.encoder!r}")

    @property
    def positions(self) -> int:
        return self.length

    def inject(self, anatomy: Anatomy) -> None:
        make = {None: lambda *sizes: None, "lstm": LSTMEncoder, "mlp": mlp_encoder}[self.encoder]
        table = beginning(anatomy, self.length, "random", (), 1.0)
        put_prompt(anatomy, table, make(anatomy.width, self.hidden))

    def parameter_count(self, anatomy: Anatomy) -> int:
        """l D; with the LSTM 8 h (D + h + 2) + 8 h (3 h + 2) + 2 h (2 h + 1) + D (2 h + 1) more.

        With the MLP h (D + 1) + h (h + 1) + D (h + 1) more.
        """
        width, h = anatomy.width, self.hidden
        lstm = 8 * h * (width + h + 2) + 8 * h * (3 * h + 2) + 2 * h * (2 * h + 1) + width * (2 * h + 1)
        mlp = h * (width + 1) + h * (h + 1) + width * (h + 1)
        return self.length * width + {None: 0, "lstm": lstm, "mlp": mlp}[self.encoder]

    def as_stored(self) -> PTuning:
        return replace(self, encoder=None)

    @torch.no_grad()
    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        """The vectors themselves, l D numbers, and the head."""
        found = super().stored(model)
        for path, module in model.named_modules():
            if isinstance(module, Prompt) and module.encoder is not None:
                found = {name: tensor for name, tensor in found.items() if not name.startswith(f"{path}.")}
                found[f"{path}.table"] = module().clone()
        return found
