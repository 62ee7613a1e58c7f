"""The frozen trunk: what lies below the first trained layer answers the same in every epoch, so compute it once.

`training.fit` with `cache_frozen=True` keeps each text's hidden states at the top of the trunk in main memory. While
it trains, stand-ins take the places of the trunk's layers and hand out what is kept. The trunk runs in eval mode:
unlike the frozen layers in a plain loop, it drops nothing out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from peft_helpers import accounting, backbones
from peft_helpers.batching import Encoded, collate

TOLERANCE = 1e-4  # between cached and computed logits, relative to the largest
HALF_TOLERANCE = 10 / 256  # in 16 bits, where another padding rounds otherwise: ten units of bfloat16
MEMORY_SHARE = 0.8  # of the memory that is free now; the cache may take no more


class StandIn(nn.Module):
    """Takes the place of a frozen layer: it passes on what is `shown`, and runs the layer when nothing is."""

    def __init__(self, layer: nn.Module, shown: list):
        super().__init__()
        self.layer, self.shown = layer, shown

    def forward(self, hidden: Tensor, *more, **named):
        return self.shown[0] if self.shown else self.layer(hidden, *more, **named)


class FrozenTrunk:
    """The layers below the first trained one, and what they answered for every text of some splits.

    Of an encoder-decoder it is the encoder's layers; the decoder is always computed.

    Args:
        model: a classifier whose architecture has an anatomy (see `backbones.anatomy`).

    Raises:
        ValueError: the architecture has no anatomy, or its first layer is trained.
    """

    def __init__(self, model: nn.Module):
        architecture = backbones.anatomy(model).architecture
        path = next(iter(backbones.ARCHITECTURES[architecture].stacks.values())).layers
        above, _, self.name = path.rpartition(".")
        self.model, self.parent = model, model.base_model.get_submodule(above)
        self.layers: nn.ModuleList = getattr(self.parent, self.name)
        trained = (i for i, layer in enumerate(self.layers) if any(p.requires_grad for p in layer.parameters()))
        self.depth = next(trained, len(self.layers))
        if not self.depth:
            raise ValueError(
                "cache_frozen has nothing to cache: the first layer is trained. It pays where the lower layers are "
                "frozen (a new head, the last layers); use cache_frozen=False"
            )
        self.shown: list = []
        self.states: dict[int, tuple[Tensor, np.ndarray]] = {}  # id of the split -> (N + 1, D), where each text starts
        self.as_tuple = False  # whether a layer answers with a tuple

    @contextlib.contextmanager
    def replaced(self, splits: Sequence[Encoded], pad: int) -> Iterator[None]:
        """Run the splits' texts through the trunk once; then the model with stand-ins for the trunk's layers.

        Afterwards the model is as it was. Without `showing`, the stand-ins run the layers, so that the model answers
        as always, to a callback for example.

        Raises:
            ValueError: something that is trained lies below the trunk, there is not enough memory for the cache, or the
                model's answers with the cache are others than without.
        """
        was_training = self.model.training
        stand_ins = [StandIn(layer, self.shown) for layer in self.layers[: self.depth]]
        self.model.eval()
        try:
            self._refuse_trained_below(splits[0], pad)
            self.states = {id(encoded): self._compute(encoded, pad) for encoded in splits}
            setattr(self.parent, self.name, nn.ModuleList([*stand_ins, *self.layers[self.depth :]]))
            self._check(splits[0], pad)
            self.model.train(was_training)
            yield
        finally:
            setattr(self.parent, self.name, self.layers)
            self.states = {}

    @contextlib.contextmanager
    def showing(self, encoded: Encoded, rows: Sequence[int]) -> Iterator[None]:
        """Within it the stand-ins hand out these rows' states, (B, T, D), padded with zeros like `collate` pads."""
        states, starts = self.states[id(encoded)]
        lengths = encoded.lengths[rows]
        steps = np.arange(lengths.max())
        positions = np.where(steps < lengths[:, None], starts[rows][:, None] + steps, len(states) - 1)
        picked = states[torch.from_numpy(positions)]
        device = next(self.model.parameters()).device
        self.shown.append((picked.to(device),) if self.as_tuple else picked.to(device))
        try:
            yield
        finally:
            self.shown.clear()

    def _check(self, encoded: Encoded, pad: int) -> None:
        """Compare the replaced model's logits with and without the cache on a few rows."""
        rows = np.arange(min(4, len(encoded.inputs)))
        batch = self._batch(encoded, rows, pad)
        with torch.no_grad():
            with self.showing(encoded, rows):  # first, so that no layer can know these rows from elsewhere
                cached = self.model(**batch).logits.float()
            computed = self.model(**batch).logits.float()
        half = torch.is_autocast_enabled(computed.device.type)
        allowed = (HALF_TOLERANCE if half else TOLERANCE) * max(1.0, computed.abs().max().item())
        difference = (cached - computed).abs().max().item()
        if difference > allowed:
            raise ValueError(
                f"cache_frozen does not work with {type(self.model).__name__}: with the cache the logits are off by "
                f"{difference:.1e}, more than {allowed:.1e}; use cache_frozen=False"
            )

    def _batch(self, encoded: Encoded, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        device = next(self.model.parameters()).device
        batch = {key: value.to(device) for key, value in collate(encoded, rows, pad).items()}
        del batch["labels"]
        return batch

    def _top(self, encoded: Encoded, rows: Sequence[int], pad: int) -> tuple[Tensor, Tensor]:
        """What comes out of the trunk's last layer for these rows, (B, T, D), and which tokens are real, (B, T)."""
        kept, batch = [], self._batch(encoded, rows, pad)
        handle = self.layers[self.depth - 1].register_forward_hook(lambda module, given, output: kept.append(output))
        try:
            self.model(**batch)
        finally:
            handle.remove()
        self.as_tuple = isinstance(kept[0], tuple)
        return (kept[0][0] if self.as_tuple else kept[0]), batch["attention_mask"].bool()

    def _compute(self, encoded: Encoded, pad: int, batch_size: int = 64) -> tuple[Tensor, np.ndarray]:
        lengths = encoded.lengths
        starts, order, states = np.cumsum(lengths) - lengths, np.argsort(lengths, kind="stable"), None
        with torch.no_grad():
            for first in range(0, len(order), batch_size):
                rows = order[first : first + batch_size]
                hidden, real = self._top(encoded, rows, pad)
                if states is None:
                    states = _allocate(int(lengths.sum()) + 1, hidden)
                places = np.concatenate([np.arange(starts[row], starts[row] + lengths[row]) for row in rows])
                states[torch.from_numpy(places)] = hidden[real].to(states)
        return states, starts

    def _refuse_trained_below(self, encoded: Encoded, pad: int) -> None:
        """If gradients reach the trunk's top, something below it is trained, and its answers would change."""
        with torch.enable_grad():
            hidden, _ = self._top(encoded, [0], pad)
        if not hidden.requires_grad:
            return
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        reached = torch.autograd.grad(hidden.sum(), list(trained.values()), allow_unused=True)
        names = [name for name, gradient in zip(trained, reached, strict=True) if gradient is not None]
        if names:
            raise ValueError(
                f"cache_frozen can't work here: {', '.join(names)} lies below the frozen layers and is trained, so "
                "their answers change at every step; freeze it, or use cache_frozen=False"
            )


def _allocate(tokens: int, like: Tensor) -> Tensor:
    """Room for so many tokens' states in main memory, the last one zero: what padding is filled with.

    Raises:
        ValueError: it would take most of the memory that is free.
    """
    import psutil  # accelerate needs it and brings it along

    needed, free = tokens * like.shape[-1] * like.element_size(), psutil.virtual_memory().available
    if needed > MEMORY_SHARE * free:
        raise ValueError(
            f"cache_frozen needs {accounting.megabytes(needed)} of main memory for {tokens:,} tokens of width "
            f"{like.shape[-1]}, and {accounting.megabytes(free)} are free; use fewer labels or cache_frozen=False"
        )
    states = torch.empty(tokens, like.shape[-1], dtype=like.dtype)
    states[-1] = 0
    return states
