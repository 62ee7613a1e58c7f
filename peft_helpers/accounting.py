"""What a model costs: parameters counted and from closed formulas, memory predicted and measured.

Sizes are in bytes; MB here means 10⁶ bytes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

FLOAT32 = 4  # bytes
OPTIMIZER_TENSORS = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2}  # state kept per trained parameter


def megabytes(size: float | None) -> str:
    """A size in bytes for people: "1,314 MB", "3.6 MB", "0.012 MB"; "unknown" for None."""
    if size is None:
        return "unknown"
    size = size / 1e6
    return f"{size:,.0f} MB" if size >= 100 else f"{size:.1f} MB" if size >= 1 else f"{size:.3f} MB"


# ---------------------------------------------------------------- parameters


@dataclass(frozen=True)
class Counts:
    """A model's parameters; a tensor used in two places (tied embeddings) counts once.

    Attributes:
        total, trainable: numbers of parameters.
        by_part: part -> parameters; parts are the base model's children (embeddings, encoder …) and the head.
        trainable_by_part: part -> trainable parameters.
    """

    total: int
    trainable: int
    by_part: dict[str, int]
    trainable_by_part: dict[str, int]

    @property
    def frozen(self) -> int:
        return self.total - self.trainable

    def __repr__(self) -> str:
        width = max(map(len, ["total", *self.by_part]))
        rows = [
            *((part, n, self.trainable_by_part[part]) for part, n in self.by_part.items()),
            ("total", self.total, self.trainable),
        ]
        return "\n".join(f"{part:<{width}}  {n:>13,}  trainable {trainable:>13,}" for part, n, trainable in rows)


def count_parameters(model: nn.Module) -> Counts:
    """Count a model's parameters by part; works on the meta device too."""
    base = getattr(model, "base_model", model)
    prefix = next((f"{name}." for name, module in model.named_modules() if module is base and name), "")
    total, trainable = Counter(), Counter()
    for name, parameter in model.named_parameters():
        part = name.removeprefix(prefix).split(".")[0]
        total[part] += parameter.numel()
        trainable[part] += parameter.numel() * parameter.requires_grad
    return Counts(total.total(), trainable.total(), dict(total), dict(trainable))


def layer_parameters(width: int, feed_forward: int) -> int:
    """One Transformer layer: 4 (D² + D) for attention, 2 D I + I + D for the feed-forward block, 4 D for two norms."""
    _check_sizes(width=width, feed_forward=feed_forward)
    return 4 * (width**2 + width) + 2 * width * feed_forward + feed_forward + width + 4 * width


def bert_parameters(
    vocabulary: int, width: int, layers: int, feed_forward: int, positions: int, types: int = 2, pooler: bool = True
) -> int:
    """BERT without a task head: (V + P + types) D + 2 D for embeddings and their norm, L layers, D² + D for the pooler.

    Args:
        vocabulary, positions, types: V, P, and the number of segment types: rows of the three embedding tables.
        width: D.
        layers: L.
        feed_forward: I, the inner width of the feed-forward block.
        pooler: count the pooler. A classifier of K labels adds K D + K.

    Raises:
        ValueError: a size that is not a positive whole number.
    """
    _check_sizes(vocabulary=vocabulary, layers=layers, positions=positions, types=types)
    embeddings = (vocabulary + positions + types) * width + 2 * width
    return embeddings + layers * layer_parameters(width, feed_forward) + pooler * (width**2 + width)


def gpt2_parameters(vocabulary: int, width: int, layers: int, positions: int, feed_forward: int | None = None) -> int:
    """GPT-2 with its language-model head, which is tied to the embeddings: (V + P) D, L layers, 2 D for the final norm.

    Args:
        feed_forward: I; by default 4 D. The others as in `bert_parameters`.
    """
    _check_sizes(vocabulary=vocabulary, width=width, layers=layers, positions=positions)
    return (vocabulary + positions) * width + layers * layer_parameters(width, feed_forward or 4 * width) + 2 * width


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a positive whole number; got {size!r}")


# ---------------------------------------------------------------- memory


@dataclass(frozen=True)
class Memory:
    """What training keeps in memory, in bytes, by part."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations

    def __repr__(self) -> str:
        parts = ("weights", "gradients", "optimizer", "activations")
        return f"{megabytes(self.total)} = " + " + ".join(f"{part} {megabytes(getattr(self, part))}" for part in parts)


def training_memory(
    parameters: int, trainable: int, activations: int = 0, weight_bytes: int = FLOAT32, optimizer: str = "adamw"
) -> Memory:
    """Predict what training keeps in memory; temporary buffers and the framework itself come on top.

    Trained parameters, their gradients and the optimizer's state are float32, as everywhere in this course: a
    half-precision weight does not move under small steps.

    Args:
        parameters, trainable: numbers of parameters, all and trained ones.
        activations: bytes kept for the backward pass; see `saved_activations`.
        weight_bytes: bytes a frozen weight: 4 for float32, 2 for float16 and bfloat16.
        optimizer: one of OPTIMIZER_TENSORS.

    Raises:
        ValueError: an unknown optimizer, a negative size, more trainable parameters than there are.
    """
    if optimizer not in OPTIMIZER_TENSORS:
        raise ValueError(f"unknown optimizer {optimizer!r}; there are {', '.join(OPTIMIZER_TENSORS)}")
    if not 0 <= trainable <= parameters or activations < 0 or weight_bytes <= 0:
        raise ValueError(
            "sizes must not be negative, and at most all parameters are trained; got "
            f"parameters {parameters}, trainable {trainable}, activations {activations}, weight_bytes {weight_bytes}"
        )
    weights = (parameters - trainable) * weight_bytes + trainable * FLOAT32
    state = OPTIMIZER_TENSORS[optimizer] * trainable * FLOAT32
    return Memory(weights, trainable * FLOAT32, state, activations)


def saved_activations(function: Callable[[], Any], model: nn.Module | None = None) -> int:
    """How many bytes autograd keeps for the backward pass when `function()` runs forward.

    A storage that several operations keep (a view, an output that is the next input) counts once. Parameters are left
    out; `model` says which storages hold its parameters and buffers: a transposed weight is no `Parameter` any more.

    Raises:
        ValueError: tensors on the meta device, which have no storage to tell apart.
    """
    import torch

    known = [] if model is None else [*model.parameters(), *model.buffers()]
    ignored = {tensor.untyped_storage().data_ptr() for tensor in known}
    kept = {}  # address -> storage; holding the storages keeps their addresses from being given out again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_meta:
            raise ValueError("activations can't be measured on the meta device; put the model on the CPU or a GPU")
        if isinstance(tensor, torch.nn.Parameter):
            ignored.add(storage.data_ptr())
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in ignored)


class Peak(NamedTuple):
    """The most memory that was in use at once: bytes (None where nothing measures it), and what measured it."""

    bytes: int | None
    meter: str

    @property
    def megabytes(self) -> float | None:
        return None if self.bytes is None else round(self.bytes / 1e6, 1)

    def __repr__(self) -> str:
        return f"{megabytes(self.bytes)} ({self.meter})"


def peak_memory(device: str | None = None) -> Peak:
    """The peak so far: of PyTorch's tensors on a GPU, else of this whole process (which can't be reset).

    Args:
        device: "cuda" … or "cpu"; by default the one that `profiles.default_device` names.
    """
    from peft_helpers.profiles import default_device

    if (device or default_device()).startswith("cuda"):
        import torch

        return Peak(torch.cuda.max_memory_allocated(device), "tensors on the GPU, torch.cuda.max_memory_allocated")
    if sys.platform == "win32":
        return Peak(None, "Windows keeps no peak that Python's standard library can read")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Peak(
        peak if sys.platform == "darwin" else peak * 1024, "the process's peak resident set, resource.getrusage"
    )
