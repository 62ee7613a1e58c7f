"""Where a prefix comes from: keys and values trained as they are, or made by an MLP that is dropped after training.

Li and Liang (arXiv:2101.00190, section 4.3) find training the keys and values themselves unstable, and let an MLP make
them from a small table. It costs nothing later: what it makes is all that is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peft_helpers.methods.attached import attachments
from peft_helpers.methods.attention_prefix import AttentionPrefix
from peft_helpers.methods.verbs import carried


class Prefix(AttentionPrefix):
    """Keys and values of one attention, (l, K) each, trained as they are."""

    def __init__(self, key: Tensor, value: Tensor):
        super().__init__()
        self.key, self.value = nn.Parameter(key), nn.Parameter(value)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.key, self.value


class Trunk(nn.Module):
    """tanh(Linear(table)): (l, D) -> (l, h), shared by all attentions of one part."""

    def __init__(self, length: int, width: int, hidden: int):
        super().__init__()
        self.table, self.down = nn.Parameter(torch.randn(length, width)), nn.Linear(width, hidden)

    def forward(self) -> Tensor:
        return torch.tanh(self.down(self.table))


class MLPPrefix(AttentionPrefix):
    """Keys and values that a linear layer makes from the trunk, (l, h) -> (l, 2 K), added to where they begin.

    Args:
        start: None, or keys and values to begin with; the linear layer then begins with 0.
        first: the trunk is registered here; the others only use it.
    """

    def __init__(self, trunk: Trunk, width: int, start: tuple[Tensor, Tensor] | None, first: bool):
        super().__init__()
        self.up, self.trunks = nn.Linear(trunk.down.out_features, 2 * width), (trunk,)
        if first:
            self.trunk = trunk
        self.register_buffer("start", None if start is None else torch.cat(start, 1))
        if start is not None:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self) -> tuple[Tensor, Tensor]:
        made = self.up(self.trunks[0]())
        return (made if self.start is None else self.start + made).chunk(2, dim=1)


@torch.no_grad()
def without_mlp(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of these tensors of a model, by name, what is kept: instead of an MLP's weights the keys and values it makes."""
    for path, module in model.named_modules():
        if isinstance(module, MLPPrefix):
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{path}.")}
            tensors |= {f"{path}.{name}": made.clone() for name, made in zip(("key", "value"), module(), strict=True)}
    return tensors


@torch.no_grad()
def drop_mlp(model: nn.Module) -> nn.Module:
    """Put the keys and values themselves in the MLP's place: the same answers, faster, and no way back.

    Raises:
        ValueError: the model carries no prefix.
    """
    adaptation = carried(model)
    if not any(isinstance(one.guest, AttentionPrefix) for one in attachments(model)):
        raise ValueError(f"there is no prefix whose MLP could be dropped; the model carries {adaptation.method}")
    made = [(one, one.guest()) for one in attachments(model) if isinstance(one.guest, MLPPrefix)]
    for one, keys_and_values in made:
        one.replace(Prefix(*(part.clone() for part in keys_and_values)))
    adaptation.method = adaptation.method.as_stored()
    return model
