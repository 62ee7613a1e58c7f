"""What a method costs on a backbone before anything is trained, from the backbone's configuration alone.

No weights are loaded: the network is made once on PyTorch's meta device, where tensors have shapes and no storage, and
kept; the counts are the methods' own closed formulas, memory and disk those of `accounting`. A change of a setting
takes a few milliseconds.

    shape = calculator.backbone("BERT-large")
    calculator.cost(shape, methods.LoRA(rank=16), tasks=10)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_helpers import accounting, backbones, methods
from peft_helpers.methods import surgery
from peft_helpers.methods.hybrid import Hybrid
from peft_helpers.methods.sparse_mask import SparseMask

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from peft_helpers.backbones import Anatomy, Site
    from peft_helpers.methods import Method

# Published shapes: model type -> the sizes that differ from the configuration's defaults in transformers.
SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "BERT-base": ("bert", {}),
    "BERT-large": (
        "bert",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "GPT-2": ("gpt2", {}),
    "GPT-2 medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "GPT-2 large": ("gpt2", {"n_embd": 1280, "n_layer": 36, "n_head": 20}),
    "BART-base": (
        "bart",
        {"d_model": 768, "vocab_size": 50265}
        | {f"{half}_layers": 6 for half in ("encoder", "decoder")}
        | {f"{half}_attention_heads": 12 for half in ("encoder", "decoder")}
        | {f"{half}_ffn_dim": 3072 for half in ("encoder", "decoder")},
    ),
    "Llama-2-7B": ("llama", {"max_position_embeddings": 4096}),
}
POCKET = ("pocket-bert", "pocket-gpt2", "pocket-bart")
SIZES = {  # method -> the setting that a slider moves, and how
    "Houlsby": "bottleneck",
    "Pfeiffer": "bottleneck",
    "ParallelAdapter": "bottleneck",
    "Compacter": "bottleneck",
    "LoRA": "rank",
    "DoRA": "rank",
    "AdaLoRA": "rank",
    "VeRA": "rank",
    "PrefixTuning": "length",
    "PromptTuning": "length",
    "PTuning": "length",
    "SAID": "dimension",
    "TopLayers": "layers",
    "MAM": "bottleneck",
    "S4": "bottleneck",
    "UniPELT": "bottleneck",
}
QUERY_KEY_VALUE = frozenset({"query", "key", "value"})
NO_LATENCY, SOME_LATENCY = "none after merging", "some: it stays beside the weights"


@dataclass(frozen=True)
class Shape:
    """A backbone without weights, and its sizes.

    Attributes:
        name: for people.
        architecture: "bert", "gpt2", "bart", "llama" …
        width, layers, heads, feed_forward: D, L (of both stacks together), H, I.
        positions: the longest text, in tokens.
        total: the pretrained network's parameters, without a task head.
        head: parameters of a new head for `labels` classes.
        labels: K.
        anatomy: of the network on the meta device.
    """

    name: str
    architecture: str
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    total: int
    head: int
    labels: int
    anatomy: Anatomy = field(repr=False, compare=False)

    @property
    def estimated(self) -> bool:
        """Whether the activations are an estimate: the formula is exact for BERT's layer only."""
        return self.architecture not in ("bert", "roberta")


@dataclass(frozen=True)
class Cost:
    """What a method costs on a shape; parameters count the task head.

    Attributes:
        method, label: the method, and its short name with its size.
        trained: parameters that get gradients and optimizer state.
        changed: of the *pretrained* weights, how many end with another value, once what was learned is merged into
            them where that is possible.
        stored: numbers that are kept for the task.
        total: the network's parameters while it is trained, new ones and head included.
        memory: of training.
        file_bytes: the task's file, float32.
        all_tasks_bytes: the pretrained network once, and a file for each of the tasks.
        mergeable: whether inference costs nothing more.
        positions: of the text's positions that the method takes.
    """

    method: Method
    label: str
    trained: int
    changed: int
    stored: int
    total: int
    memory: accounting.Memory
    file_bytes: int
    all_tasks_bytes: int
    mergeable: bool
    positions: int

    @property
    def family(self) -> str:
        """The method's family, as registered."""
        return self.method.card.family

    @property
    def latency(self) -> str:
        """What inference costs more, in words."""
        return NO_LATENCY if self.mergeable else SOME_LATENCY


def available() -> list[str]:
    """The names that `backbone` knows by themselves."""
    return [*POCKET, *SHAPES]


def backbone(name: str | Path | PretrainedConfig, labels: int = 2) -> Shape:
    """A backbone's shape, with a classifier's head of `labels` classes.

    Args:
        name: one of `available()`, a folder with a config.json, a registered backbone whose files are here, or a
            configuration of transformers.

    Raises:
        ValueError: none of these, an architecture without an anatomy, or no positive number of labels.
    """
    accounting.require_sizes(labels=labels)
    called, config = _configuration(name)
    return _shape(called, config.model_type, config.to_json_string(use_diff=False), labels)


def _configuration(name: str | Path | PretrainedConfig) -> tuple[str, PretrainedConfig]:
    from transformers import AutoConfig

    if hasattr(name, "to_json_string"):
        return getattr(name, "name_or_path", "") or name.model_type, name
    if str(name) in SHAPES:
        kind, sizes = SHAPES[str(name)]
        return str(name), AutoConfig.for_model(kind, **sizes)
    known = str(name) in backbones.REGISTRY
    place = Path(backbones.find(str(name)) if known else name)
    if (place / "config.json").is_file():
        return place.name, AutoConfig.from_pretrained(str(place))
    raise ValueError(
        f"no configuration {str(name)!r}: give one of {', '.join(available())}, a folder with a config.json, or a "
        "transformers configuration"
    )


@functools.lru_cache(maxsize=64)
def _shape(name: str, kind: str, configuration: str, labels: int) -> Shape:
    """The network on the meta device; cached by the whole configuration, so that a change is never missed."""
    import json

    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = {key: value for key, value in json.loads(configuration).items() if key not in ("model_type", "dtype")}
    config = AutoConfig.for_model(kind, **sizes)
    if kind not in backbones.ARCHITECTURES:
        raise ValueError(f"no anatomy for {kind!r}; there is one for {', '.join(backbones.ARCHITECTURES)}")
    config.num_labels = labels
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    model.requires_grad_(True)
    anatomy = backbones.anatomy(model)
    layer = anatomy.layers[0]
    return Shape(
        name=name,
        architecture=kind,
        width=anatomy.width,
        layers=len(anatomy.layers),
        heads=config.num_attention_heads,
        feed_forward=surgery.features(layer.sites["ffn_in"])[1],
        positions=config.max_position_embeddings,
        total=sum(p.numel() for p in model.base_model.parameters()),
        head=surgery.count(surgery.task_head(anatomy)),
        labels=labels,
        anatomy=anatomy,
    )


# ---------------------------------------------------------------- one method


def cost(
    shape: Shape,
    method: Method,
    *,
    batch: int = 32,
    tokens: int = 128,
    optimizer: str = "adamw",
    weight_bytes: int = accounting.FLOAT32,
    tasks: int = 1,
    fused: bool = True,
    dropout: bool = False,
) -> Cost:
    """What this method costs on this shape; see `Cost`.

    Args:
        batch, tokens: B and T of a training step, padding included; a prompt's own positions come on top.
        optimizer: one of `accounting.OPTIMIZER_TENSORS`.
        weight_bytes: bytes a frozen weight: 4, or 2 for half precision. What is trained is float32.
        tasks: N, over one frozen network.
        fused, dropout: see `accounting.layer_activations`.

    Raises:
        ValueError: a method that does not fit the shape (no biases, more layers than there are), or impossible sizes.
    """
    accounting.require_sizes(batch=batch, tokens=tokens, tasks=tasks)
    anatomy = shape.anatomy
    own = method.parameter_count(anatomy)
    parts = method.parts_for(anatomy) if isinstance(method, Hybrid) else [methods.Part(method)]
    for part in parts:
        if not (isinstance(part.method, methods.HeadOnly) or part.method.parameter_count(part.seen(anatomy))):
            raise ValueError(f"{label(part.method)} trains nothing on {shape.name}, which has no such parameters")
    trained = own + shape.head
    stored = method.as_stored().parameter_count(anatomy) + shape.head
    total = shape.total + shape.head + own - in_place(method, anatomy)
    kept = activations(shape, method, batch, tokens, fused=fused, dropout=dropout)
    memory = accounting.training_memory(total, trained, kept, weight_bytes, optimizer)
    index = index_bytes(method, anatomy)
    file_bytes = accounting.FLOAT32 * stored + index
    whole = isinstance(method, methods.FullFineTuning)
    return Cost(
        method=method,
        label=label(method),
        trained=trained,
        changed=changed_weights(method, anatomy),
        stored=stored,
        total=total,
        memory=memory,
        file_bytes=file_bytes,
        all_tasks_bytes=tasks * file_bytes + (0 if whole else shape.total * weight_bytes),
        mergeable=method.card.mergeable,
        positions=method.positions,
    )


def sized(name: str, size: int | None = None) -> Method:
    """A registered method with its one size (rank, bottleneck, length …) set, where it has one.

    >>> sized("LoRA", 4).rank
    4
    """
    setting = SIZES.get(name)
    return methods.make(name, **({setting: size} if setting and size is not None else {}))


def label(method: Method) -> str:
    """The method's name, with its size: "LoRA 8", "BitFit"."""
    name = type(method).__name__
    return f"{name} {getattr(method, SIZES[name])}" if name in SIZES else name


def every(shape: Shape, names: tuple[str, ...] | None = None, **settings: Any) -> list[Cost]:
    """The cost of each registered method with its defaults (or of those named), fewest trained parameters first.

    Methods that do not fit the shape are left out.
    """
    found = []
    for name in names or methods.available():
        try:
            found.append(cost(shape, methods.make(name), **settings))
        except ValueError:
            if names:
                raise
    return sorted(found, key=lambda one: one.trained)


def table(costs: list[Cost], tasks: int = 1) -> str:
    """Costs as a Markdown table."""
    lines = [f"| method | family | trained | changed | stored | training | file | {tasks} tasks | inference |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|---|")
    for one in costs:
        sizes = (one.memory.total, one.file_bytes, one.all_tasks_bytes)
        cells = [one.label, one.family, f"{one.trained:,}", f"{one.changed:,}", f"{one.stored:,}"]
        cells += [accounting.megabytes(size) for size in sizes]
        lines.append("| " + " | ".join([*cells, "+0" if one.mergeable else "more"]) + " |")
    return "\n".join(lines)


# ---------------------------------------------------------------- what is trained in place, changed, kept


def in_place(method: Method, anatomy: Anatomy) -> int:
    """How many of the trained parameters are the pretrained network's own."""
    if isinstance(method, Hybrid):
        return sum(in_place(part.method, part.seen(anatomy)) for part in method.parts_for(anatomy))
    if isinstance(method, methods.Houlsby):
        return surgery.count(anatomy.layer_norms())
    kinds = methods.FullFineTuning, methods.BitFit, methods.LayerNormTuning, methods.TopLayers
    return method.parameter_count(anatomy) if isinstance(method, kinds) else 0


def changed_weights(method: Method, anatomy: Anatomy) -> int:
    """How many pretrained weights end with another value: a merged matrix counts whole, a new module not at all."""
    if isinstance(method, Hybrid) and not method.card.mergeable:
        return in_place(method, anatomy)
    if isinstance(method, Hybrid):
        return sum(changed_weights(part.method, part.seen(anatomy)) for part in method.parts_for(anatomy))
    if isinstance(method.as_stored(), SparseMask):
        return method.as_stored().parameter_count(anatomy)
    if own := in_place(method, anatomy):
        return own
    if not (method.card.mergeable and method.sites):
        return 0
    sites = _targets(method, anatomy)
    matrices = sum(inputs * outputs for inputs, outputs in map(surgery.features, sites))
    if isinstance(method, methods.IA3):  # factors of keys and values scale their biases too
        scaled = [site for site in sites if site.name in method.keys_and_values]
        matrices += sum(surgery.features(s)[1] for s in scaled if getattr(s.module, "bias", None) is not None)
    return matrices


def _targets(method: Method, anatomy: Anatomy) -> list[Site]:
    """The projections that a method changes, as far as this architecture has them."""
    known = {name for layer in anatomy.layers for name in layer.sites}
    return anatomy.sites([name for name in method.sites if name in known])


def index_bytes(method: Method, anatomy: Anatomy) -> int:
    """What a mask's file holds besides its values: the place of each, in four bytes (eight in a huge network)."""
    if isinstance(method, Hybrid):
        return sum(index_bytes(part.method, part.seen(anatomy)) for part in method.parts_for(anatomy))
    kept = method.as_stored()
    if not isinstance(kept, SparseMask):
        return 0
    places = sum(inputs * outputs for inputs, outputs in map(surgery.features, _targets(kept, anatomy)))
    return kept.parameter_count(anatomy) * (4 if places < 2**31 else 8)


# ---------------------------------------------------------------- activations


def activations(
    shape: Shape, method: Method, batch: int, tokens: int, *, fused: bool = True, dropout: bool = False
) -> int:
    """Bytes kept for the backward pass, float32: BERT's layer as in `accounting`, less what frozen weights don't need.

    The gradient of a linear layer's weight needs the layer's input; that of its input does not. So a layer with frozen
    weights keeps less, and layers below the first trained one keep nothing. What the method adds (inputs of its own
    small matrices) comes on top. Exact to some percent for BERT and the methods that lesson 13 compares; for another
    layer than BERT's, and for hybrids, an estimate.
    """
    if isinstance(method, methods.HeadOnly):
        return 0
    prompt = getattr(method, "length", 0) if isinstance(method, methods.PromptTuning | methods.PTuning) else 0
    sizes = (batch, tokens + prompt, shape.width, shape.heads, shape.feed_forward)
    whole = accounting.layer_activations(*sizes, dropout=dropout, fused=fused)
    hidden = accounting.FLOAT32 * batch * (tokens + prompt) * shape.width  # one (B, T, D)
    inner = accounting.FLOAT32 * batch * (tokens + prompt) * shape.feed_forward  # one (B, T, I)
    if isinstance(method, methods.FullFineTuning) or isinstance(method.as_stored(), SparseMask):
        return shape.layers * whole + 2 * hidden
    if isinstance(method, methods.TopLayers):
        return method.layers * whole
    frozen = whole - (2 if fused else 3) * hidden - inner
    small = accounting.FLOAT32 * batch * (tokens + prompt)  # one number a token
    begins_late = isinstance(method, methods.Pfeiffer | methods.ParallelAdapter)  # behind the first layer's attention
    return (shape.layers - begins_late) * frozen + hidden + _added(method, shape.anatomy, hidden, inner, small, fused)


def _added(method: Method, anatomy: Anatomy, hidden: int, inner: int, small: int, fused: bool) -> int:
    """What the method itself keeps, over all the layers that it is in."""
    if isinstance(method, Hybrid):
        parts = method.parts_for(anatomy)
        return sum(_added(part.method, part.seen(anatomy), hidden, inner, small, fused) for part in parts)
    layers = len(anatomy.layers)
    if isinstance(method, methods.Houlsby | methods.Compacter):
        return layers * 2 * (hidden + 2 * method.bottleneck * small)
    if isinstance(method, methods.Pfeiffer | methods.ParallelAdapter):
        return layers * (hidden + method.bottleneck * small)
    if isinstance(method, methods.IA3):
        names = [site.name for site in _targets(method, anatomy)]
        return sum(inner if name == "ffn_out" else hidden for name in names)
    if method.card.family != "reparametrization":
        return 0
    rank = getattr(method, "rank", 0)
    total = 0
    for layer in anatomy.layers:
        names = [name for name in layer.sites if name in method.sites]
        read = {"block" if name in QUERY_KEY_VALUE else name for name in names}  # these three read the same tensor
        total += hidden * len(read & {"block", "ffn_in", "cross_query"}) + inner * len(read & {"ffn_out"})
        total += hidden * (not fused) * len(read & {"attention_output"}) + rank * small * len(names)
        if isinstance(method, methods.DoRA):
            total += hidden * len(names)  # what the gain is multiplied by is needed again
    return total


def with_tasks(one: Cost, shape: Shape, tasks: int, weight_bytes: int = accounting.FLOAT32) -> Cost:
    """The same cost for another number of tasks."""
    accounting.require_sizes(tasks=tasks)
    whole = isinstance(one.method, methods.FullFineTuning)
    return replace(one, all_tasks_bytes=tasks * one.file_bytes + (0 if whole else shape.total * weight_bytes))
