"""What a model costs: parameters counted and from closed formulas, memory predicted and measured.

Sizes are in bytes; MB here means 10⁶ bytes.
"""

from __future__ import annotations

import gzip
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
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
    require_sizes(width=width, feed_forward=feed_forward)
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
    require_sizes(vocabulary=vocabulary, layers=layers, positions=positions, types=types)
    embeddings = (vocabulary + positions + types) * width + 2 * width
    return embeddings + layers * layer_parameters(width, feed_forward) + pooler * (width**2 + width)


def gpt2_parameters(vocabulary: int, width: int, layers: int, positions: int, feed_forward: int | None = None) -> int:
    """GPT-2 with its language-model head, which is tied to the embeddings: (V + P) D, L layers, 2 D for the final norm.

    Args:
        feed_forward: I; by default 4 D. The others as in `bert_parameters`.
    """
    require_sizes(vocabulary=vocabulary, width=width, layers=layers, positions=positions)
    return (vocabulary + positions) * width + layers * layer_parameters(width, feed_forward or 4 * width) + 2 * width


def bart_parameters(
    vocabulary: int, width: int, layers: int, feed_forward: int, positions: int, decoder_layers: int | None = None
) -> int:
    """BART with its tied head: V D + 2 (P + 2) D + 4 D, L encoder layers, L decoder layers with cross-attention.

    One table of word pieces serves encoder, decoder and head. Each side has its own table of positions, two rows longer
    than it needs (transformers keeps that offset from the original code), and its own norm of the embeddings. A decoder
    layer has one attention block and one norm more.

    Args:
        layers: of the encoder.
        decoder_layers: of the decoder; by default as many. The others as in `bert_parameters`.
    """
    decoder_layers = layers if decoder_layers is None else decoder_layers
    require_sizes(vocabulary=vocabulary, layers=layers, decoder_layers=decoder_layers, positions=positions)
    embeddings = vocabulary * width + 2 * (positions + 2) * width + 4 * width
    one, cross = layer_parameters(width, feed_forward), 4 * (width**2 + width) + 2 * width
    return embeddings + layers * one + decoder_layers * (one + cross)


def bert_parts(
    vocabulary: int, width: int, layers: int, feed_forward: int, positions: int, types: int = 2
) -> dict[str, int]:
    """Where BERT's parameters are: embeddings, attention, feed-forward, layer norms, pooler.

    The sum of all is `bert_parameters`, whose arguments these are.
    """
    require_sizes(vocabulary=vocabulary, width=width, layers=layers, positions=positions, types=types)
    require_sizes(feed_forward=feed_forward)
    return {
        "embeddings": (vocabulary + positions + types) * width,
        "attention": layers * 4 * (width**2 + width),
        "feed-forward": layers * (2 * width * feed_forward + feed_forward + width),
        "layer norms": (2 * layers + 1) * 2 * width,
        "pooler": width**2 + width,
    }


# What a method trains, without the head. Symbols: D width, L layers, I feed-forward width, as above.


def adapter_parameters(width: int, bottleneck: int) -> int:
    """One bottleneck adapter, D -> m -> D with biases: 2 m D + D + m (arXiv:1902.00751, section 2.1)."""
    require_sizes(width=width, bottleneck=bottleneck)
    return 2 * bottleneck * width + width + bottleneck


def houlsby_parameters(width: int, layers: int, bottleneck: int, norms: bool = True) -> int:
    """Two adapters a layer, L · 2 (2 m D + D + m), and BERT's layer norms, which the paper trains with them."""
    require_sizes(layers=layers)
    return 2 * layers * adapter_parameters(width, bottleneck) + norms * layer_norm_parameters(width, layers)


def pfeiffer_parameters(width: int, layers: int, bottleneck: int) -> int:
    """One adapter a layer: L (2 m D + D + m) (arXiv:2005.00247); a parallel adapter has as many (arXiv:2110.04366)."""
    require_sizes(layers=layers)
    return layers * adapter_parameters(width, bottleneck)


def layer_norm_parameters(width: int, layers: int) -> int:
    """Scale and shift of BERT's layer norms, two a layer and one at the embeddings: 2 D (2 L + 1). GPT-2's too."""
    require_sizes(width=width, layers=layers)
    return 2 * width * (2 * layers + 1)


def bias_parameters(width: int, layers: int, feed_forward: int, pooler: bool = True) -> int:
    """Every bias of BERT, norms included: L (7 D + I) + D, and D for a pooler (arXiv:2106.10199). GPT-2 has none."""
    require_sizes(width=width, layers=layers, feed_forward=feed_forward)
    return layers * (7 * width + feed_forward) + width + pooler * width


def bart_layer_norm_parameters(width: int, layers: int, decoder_layers: int | None = None) -> int:
    """BART's layer norms, two an encoder layer, three a decoder layer, one on each side's embeddings: scale and shift.

    2 D (2 Le + 3 Ld + 2). Arguments as in `bart_parameters`.
    """
    decoder_layers = layers if decoder_layers is None else decoder_layers
    require_sizes(width=width, layers=layers, decoder_layers=decoder_layers)
    return 2 * width * (2 * layers + 3 * decoder_layers + 2)


def bart_bias_parameters(width: int, layers: int, feed_forward: int, decoder_layers: int | None = None) -> int:
    """Every bias of BART, norms included: Le (7 D + I) + Ld (12 D + I) + 2 D; a decoder layer has cross-attention."""
    decoder_layers = layers if decoder_layers is None else decoder_layers
    require_sizes(width=width, layers=layers, feed_forward=feed_forward, decoder_layers=decoder_layers)
    return layers * (7 * width + feed_forward) + decoder_layers * (12 * width + feed_forward) + 2 * width


def projection_bias_parameters(width: int, layers: int, feed_forward: int, narrow: int = 5, wide: int = 1) -> int:
    """Some projections' biases a layer, norms left out: L (5 D + I) for all of BERT's.

    Args:
        narrow: how many with D outputs: query, key, value, and the two projections back to D.
        wide: how many with I outputs; BitFit's smaller variant, query and the way into the feed-forward block, has one
            of each: L (D + I) (arXiv:2106.10199).
    """
    require_sizes(width=width, layers=layers, feed_forward=feed_forward)
    return layers * (narrow * width + wide * feed_forward)


def top_layers_parameters(width: int, layers: int, feed_forward: int, pooler: bool = False) -> int:
    """The last k layers as they are, k times `layer_parameters`, and D² + D for a pooler; here `layers` is k."""
    require_sizes(layers=layers)
    return layers * layer_parameters(width, feed_forward) + pooler * (width**2 + width)


def head_parameters(width: int, labels: int) -> int:
    """A linear classifier of K labels on one vector, K D + K: what every method trains besides."""
    require_sizes(width=width, labels=labels)
    return labels * width + labels


def lora_parameters(width: int, layers: int, rank: int, matrices: int = 2, magnitudes: bool = False) -> int:
    """A (r, D) and B (D, r) for some square matrices a layer: 2 D r each (arXiv:2106.09685, section 4.1).

    Args:
        rank: r.
        matrices: how many a layer; 2 for query and value.
        magnitudes: DoRA's vector of D magnitudes a matrix on top (arXiv:2402.09353).
    """
    require_sizes(width=width, layers=layers, rank=rank, matrices=matrices)
    return layers * matrices * (2 * width * rank + magnitudes * width)


def vera_parameters(width: int, layers: int, rank: int, matrices: int = 2) -> int:
    """VeRA: two vectors a matrix, D + r, on random A and B that all share and nobody trains (arXiv:2310.11454)."""
    require_sizes(width=width, layers=layers, rank=rank, matrices=matrices)
    return layers * matrices * (width + rank)


def prefix_parameters(width: int, layers: int, length: int, hidden: int | None = None) -> int:
    """Prefix-tuning: l keys and values a layer, 2 l L D numbers, and that is what is stored (arXiv:2101.00190).

    Args:
        length: l.
        hidden: h, the width of the MLP that makes them in training, D -> h -> 2 L D from an l × D table; with it, what
            is trained: l D + D h + h + 2 L D (h + 1).
    """
    require_sizes(width=width, layers=layers, length=length)
    if hidden is None:
        return 2 * length * layers * width
    require_sizes(hidden=hidden)
    return length * width + width * hidden + hidden + 2 * layers * width * (hidden + 1)


def prompt_parameters(width: int, length: int) -> int:
    """Prompt tuning: l vectors before the text, l D (arXiv:2104.08691)."""
    require_sizes(width=width, length=length)
    return length * width


def ia3_parameters(width: int, layers: int, feed_forward: int) -> int:
    """(IA)³: a factor for every key, value and inner feed-forward number, L (2 D + I) (arXiv:2205.05638)."""
    require_sizes(width=width, layers=layers, feed_forward=feed_forward)
    return layers * (2 * width + feed_forward)


def require_sizes(**sizes: int) -> None:
    """Refuse sizes that are not positive whole numbers, by name."""
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


def layer_activations(
    batch: int,
    tokens: int,
    width: int,
    heads: int,
    feed_forward: int,
    *,
    dropout: bool = True,
    fused: bool = False,
    mask_bytes: int = FLOAT32,
) -> int:
    """Bytes that one BERT layer keeps for its backward pass, in float32.

    What each operation of the layer needs again, each storage once: a linear layer its input, GELU its input, a layer
    norm its input with mean and 1/std, a dropout its mask, attention q, k, v and the (B, H, T, T) shares. Korthikanti
    et al. count the same operations for half precision (arXiv:2205.05198, eq. 1).

    Args:
        batch, tokens, width, heads, feed_forward: B, T (padding included), D, H, I.
        dropout: training mode with dropout, which keeps its masks, and the shares before and after.
        fused: a fused attention kernel (flash, memory-efficient) that keeps no (T, T) matrix: the usual case on GPUs,
            and without dropout also on the CPU, as long as nothing is padded.
        mask_bytes: bytes an entry of a dropout mask: 4 on the CPU, 1 on GPUs.

    Raises:
        ValueError: a size that is not a positive whole number.
    """
    require_sizes(batch=batch, tokens=tokens, width=width, heads=heads, feed_forward=feed_forward)
    hidden, shares = batch * tokens * width, batch * heads * tokens**2
    kept = 8 * hidden  # the layer's input, q, k, v, their mixture, the feed-forward's input, the inputs of two norms
    kept += 2 * batch * tokens * feed_forward  # before and after GELU
    kept += 4 * batch * tokens  # mean and 1/std of two norms
    kept += batch * heads * tokens if fused else shares  # fused: one log-sum-exp a row instead of the row
    masks = 2 * hidden  # of the two dropouts before the residual sums
    if dropout and not fused:
        kept += shares  # after their dropout; a fused kernel keeps a random seed instead
        masks += shares
    return FLOAT32 * kept + mask_bytes * masks * dropout


def bert_activations(
    batch: int,
    tokens: int,
    width: int,
    layers: int,
    heads: int,
    feed_forward: int,
    *,
    dropout: bool = True,
    fused: bool = False,
    mask_bytes: int = FLOAT32,
) -> int:
    """Bytes that a BERT classifier, trained as a whole, keeps for its backward pass, in float32.

    L layers, the input of the embeddings' norm with its dropout mask, the last layer's output, the pooler's few numbers
    a text. Token ids and the loss are left out. Arguments as in `layer_activations`; L is `layers`.
    """
    require_sizes(layers=layers)
    layer = layer_activations(
        batch, tokens, width, heads, feed_forward, dropout=dropout, fused=fused, mask_bytes=mask_bytes
    )
    hidden, pooled = batch * tokens * width, batch * width
    ends = 2 * hidden + 2 * batch * tokens + (2 if dropout else 1) * pooled
    return layers * layer + FLOAT32 * ends + mask_bytes * (hidden + pooled) * dropout


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


def measured_memory(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Memory:
    """Take one training step and measure the four parts, on any device.

    The meters: the bytes of the model's parameters, of their `.grad`, of the tensors in the optimizer's state (Adam's
    step counters aside), and of what autograd keeps (`torch.autograd.graph.saved_tensors_hooks`). Temporary buffers are
    not among them. The gradients are cleared afterwards.

    Args:
        loss: runs the forward pass and gives the loss, a scalar.
    """
    found = []
    activations = saved_activations(lambda: found.append(loss()), model)
    found.pop().backward()
    parameters = list(model.parameters())
    gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)
    optimizer.step()
    state = sum(
        tensor.nbytes
        for kept in optimizer.state.values()
        for name, tensor in kept.items()
        if hasattr(tensor, "nbytes") and name != "step"
    )
    optimizer.zero_grad()
    return Memory(sum(p.nbytes for p in parameters), gradients, state, activations)


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
    if found := _high_water_mark():
        return Peak(found, "the process's peak resident set, VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Peak(
        peak if sys.platform == "darwin" else peak * 1024, "the process's peak resident set, resource.getrusage"
    )


def _high_water_mark() -> int | None:
    """Linux's VmHWM in bytes; None elsewhere. `ru_maxrss` survives exec there: a child begins at its parent's peak."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.M) if sys.platform == "linux" else None
    return int(found[1]) * 1024 if found else None


# ---------------------------------------------------------------- disk and time


def stored_bytes(tensors: Mapping[str, Tensor], packed: bool = False) -> int:
    """The size of these tensors' safetensors file, or of the same file gzipped (fastest level)."""
    from peft_helpers import storage

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        storage.write_tensors(path, tensors)
        return len(gzip.compress(path.read_bytes(), compresslevel=1)) if packed else path.stat().st_size


class Latency(NamedTuple):
    """How long a call takes: in seconds, and as a share of the reference's time in the same moment."""

    seconds: float
    share: float


def latencies(functions: Mapping[str, Callable[[], Any]], rounds: int = 15, warm_up: int = 1) -> dict[str, Latency]:
    """How long a call of each function takes, against the first one, which is the reference.

    Every call stands between two calls of the reference, and is divided by their mean; the share is the median over the
    rounds. A machine that is busy with other things changes its speed by factors within seconds; what is compared must
    be measured in the same moment. Time an identical copy of the reference, too: how far its share is from 1 gives an
    idea of how exact the others are. The seconds are the share of the reference's median.

    Raises:
        ValueError: no function, or fewer than one round.
    """
    import torch

    if not functions or rounds < 1 or warm_up < 0:
        raise ValueError(f"latencies needs functions, and rounds from 1 on; got {len(functions)}, rounds {rounds}")

    def timed(function: Callable[[], Any]) -> float:
        _wait_for_gpu(torch)
        started = time.perf_counter()
        function()
        _wait_for_gpu(torch)
        return time.perf_counter() - started

    (name, reference), *others = functions.items()
    references: list[float] = []
    shares: dict[str, list[float]] = {other: [] for other, _ in others}
    for number in range(warm_up + rounds):
        before = timed(reference)
        for other, function in others:
            own, after = timed(function), timed(reference)
            if number >= warm_up:
                shares[other].append(2 * own / (before + after))
            before = after
        if number >= warm_up:
            references.append(before)
    usual = statistics.median(references)
    found = {other: statistics.median(values) for other, values in shares.items()}
    return {other: Latency(share * usual, share) for other, share in {name: 1.0, **found}.items()}


def _wait_for_gpu(torch: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
