"""The backbone registry, and the anatomy of each architecture: where its layers, projections, norms and head are.

`load("pocket-bert", task)` gives a transformers model with a fresh head for the task, and its tokenizer.
`anatomy(model)` names the model's parts in one vocabulary (query, attention_output, …), so that what is written for one
architecture works on all. A new backbone is one row in `REGISTRY`, a new architecture one row in `ARCHITECTURES`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from peft_helpers import hub, storage

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

POCKET = Path(__file__).parent / "pocket" / "models"


@dataclass(frozen=True)
class Backbone:
    """One row of the registry.

    Attributes:
        hub: its name on the Hub, or None for a model that ships with the course.
        pooling: which summary of the text the head reads: "own" (the architecture's own, for BERT [CLS] through the
            pretrained pooler) or "mean" (the masked mean of the last layer, where no pooler was trained).
    """

    hub: str | None
    pooling: str = "own"


REGISTRY = {
    "pocket-bert": Backbone(None),
    "pocket-gpt2": Backbone(None),
    "pocket-bart": Backbone(None),
    "bert-base-uncased": Backbone("google-bert/bert-base-uncased"),
    "bert-large-uncased": Backbone("google-bert/bert-large-uncased"),
    "roberta-base": Backbone("FacebookAI/roberta-base"),
    "gpt2": Backbone("openai-community/gpt2"),
    "gpt2-medium": Backbone("openai-community/gpt2-medium"),
    "bart-base": Backbone("facebook/bart-base"),
    "minilm": Backbone("sentence-transformers/all-MiniLM-L6-v2", pooling="mean"),
}


def available() -> list[str]:
    """The names of the registered backbones; any other name is looked up on the Hub."""
    return list(REGISTRY)


def find(name: str) -> str:
    """Where a backbone's files are: a folder of this machine if there is one, else its name on the Hub.

    Raises:
        ValueError: a pocket model is missing from the installation.
    """
    row = REGISTRY.get(name)
    if row is not None and row.hub is None:
        if not (POCKET / name / "config.json").is_file():
            raise ValueError(f"{POCKET / name} is missing: the installation is incomplete; install peft_helpers again")
        return str(POCKET / name)
    local = hub.local_copy("PEFT_MODELS", name) or (hub.local_copy("PEFT_MODELS", row.hub) if row else None)
    return str(local or (row.hub if row else name))


def weights_hash(name: str) -> str | None:
    """SHA-256 of the backbone's weights file on this machine; None where there is none (a Hub cache, no backbone)."""
    path = Path(find(name)) / "model.safetensors" if name != "none" else Path()
    return storage.sha256(path) if path.is_file() else None


def load(
    name: str, task: Task, *, pretrained: bool = True, seed: int = 0
) -> tuple[PreTrainedModel | nn.Module, PreTrainedTokenizerBase]:
    """A backbone with a fresh head for `task`, in float32, and its tokenizer; for generation, with its own text head.

    Args:
        name: one of `available()`, a name on the Hub, or a folder in the Hub's format.
        task: gives the head its shape: one output a class, or one number for regression.
        pretrained: False gives the same network from random weights.
        seed: draws the head (and all other weights if not pretrained).

    Raises:
        ValueError: there is no such backbone, or it can't do the task (an encoder can't write).
        ConnectionError: it is on the Hub, and the Hub can't be reached.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    place = find(name)
    writes = task.kind == "generation"
    pooling = REGISTRY[name].pooling if name in REGISTRY and not writes else "own"
    make = AutoModel if pooling == "mean" else AutoModelForSequenceClassification
    options = {} if pooling == "mean" or writes else _head_options(task)
    torch.manual_seed(seed)
    try:
        hub.check_reachable(place, "model")
        if writes:
            make = _writer(AutoConfig.from_pretrained(place), name)
        tokenizer = AutoTokenizer.from_pretrained(place)
        if pretrained:
            model = make.from_pretrained(place, dtype=torch.float32, **options)
        else:
            model = make.from_config(AutoConfig.from_pretrained(place, **options), dtype=torch.float32)
    except CannotWriteError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # whatever transformers, the Hub's client or the network layer raise
        if Path(place).is_dir():
            raise ValueError(f"{place} does not hold a complete model in the Hub's format: {error}") from error
        raise hub.explain(error, "backbone", name, "PEFT_MODELS", available()) from error
    if tokenizer.pad_token is None:  # GPT-2 and Llama have none; the classifier finds the last token by this id
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    if pooling == "mean":
        torch.manual_seed(seed)
        model = mean_pooled_classifier(model, task.outputs)
    model.name = name
    return model, tokenizer


class CannotWriteError(ValueError):
    """The backbone is an encoder, and the task wants text."""


def _writer(config, name: str) -> type:
    """The class that writes text with this architecture."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    if config.model_type not in ("gpt2", "llama"):
        raise CannotWriteError(
            f"{name} is an encoder ({config.model_type}) and can't write texts; "
            "take a decoder or an encoder-decoder, such as pocket-gpt2 or pocket-bart"
        )
    return AutoModelForCausalLM


def _head_options(task: Task) -> dict:
    if task.kind == "regression":
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "num_labels": task.outputs,
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: i for i, label in enumerate(task.labels)},
    }


def mean_pooled_classifier(encoder: PreTrainedModel, outputs: int) -> nn.Module:
    """An encoder with a linear head on the masked mean of its last layer: for encoders without a trained pooler."""
    import torch
    from torch import nn
    from transformers.modeling_outputs import SequenceClassifierOutput

    class MeanPooledClassifier(nn.Module):
        """(B, T) token ids -> (B, K) logits, from the mean over real tokens of the last hidden state (B, T, D)."""

        def __init__(self):
            super().__init__()
            self.config = copy.deepcopy(encoder.config)
            self.config.num_labels = outputs
            self.base_model = encoder
            self.pooling = "mean"
            self.dropout = nn.Dropout(encoder.config.hidden_dropout_prob)
            self.classifier = nn.Linear(encoder.config.hidden_size, outputs)
            nn.init.normal_(self.classifier.weight, std=encoder.config.initializer_range)
            nn.init.zeros_(self.classifier.bias)

        def forward(self, input_ids, attention_mask, **more):
            hidden = self.base_model(input_ids, attention_mask=attention_mask, **more).last_hidden_state
            mask = attention_mask[..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
            return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))

    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # never read: without it, what is counted is what is used
    assert torch.is_floating_point(encoder.get_input_embeddings().weight)
    return MeanPooledClassifier()


# ---------------------------------------------------------------- anatomy


@dataclass(frozen=True)
class Stack:
    """A stack of equal layers inside the base model, and where their parts are, relative to one layer.

    Attributes:
        layers: path of the ModuleList, relative to the base model.
        parts: our name -> path in a layer.
        norms: paths of the layer's norms.
        fused: (module path, order of the thirds) where query, key and value share one matrix.
    """

    layers: str
    parts: dict[str, str]
    norms: tuple[str, ...]
    fused: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Architecture:
    """Where the parts of one architecture are; paths are relative to the base model (without the head)."""

    stacks: dict[str, Stack]
    embeddings: tuple[str, ...]
    norms: tuple[str, ...] = ()
    pooler: str | None = None


def _bart_layer(**more: str) -> dict[str, str]:
    self_attention = {part: f"self_attn.{part[0]}_proj" for part in ("query", "key", "value")}
    return self_attention | {"attention_output": "self_attn.out_proj", "ffn_in": "fc1", "ffn_out": "fc2"} | more


_BERT = Architecture(
    {
        "encoder": Stack(
            "encoder.layer",
            {part: f"attention.self.{part}" for part in ("query", "key", "value")}
            | {"attention_output": "attention.output.dense", "ffn_in": "intermediate.dense", "ffn_out": "output.dense"},
            ("attention.output.LayerNorm", "output.LayerNorm"),
        )
    },
    embeddings=("embeddings.word_embeddings", "embeddings.position_embeddings", "embeddings.token_type_embeddings"),
    norms=("embeddings.LayerNorm",),
    pooler="pooler",
)

ARCHITECTURES = {
    "bert": _BERT,
    "roberta": _BERT,
    "gpt2": Architecture(
        {
            "decoder": Stack(
                "h",
                {"attention_output": "attn.c_proj", "ffn_in": "mlp.c_fc", "ffn_out": "mlp.c_proj"},
                ("ln_1", "ln_2"),
                fused=("attn.c_attn", ("query", "key", "value")),
            )
        },
        embeddings=("wte", "wpe"),
        norms=("ln_f",),
    ),
    "bart": Architecture(
        {
            "encoder": Stack("encoder.layers", _bart_layer(), ("self_attn_layer_norm", "final_layer_norm")),
            "decoder": Stack(
                "decoder.layers",
                _bart_layer(
                    cross_query="encoder_attn.q_proj",
                    cross_key="encoder_attn.k_proj",
                    cross_value="encoder_attn.v_proj",
                    cross_output="encoder_attn.out_proj",
                ),
                ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
            ),
        },
        embeddings=("shared", "encoder.embed_positions", "decoder.embed_positions"),
        norms=("encoder.layernorm_embedding", "decoder.layernorm_embedding"),
    ),
    "llama": Architecture(
        {
            "decoder": Stack(
                "layers",
                {part: f"self_attn.{part[0]}_proj" for part in ("query", "key", "value")}
                | {
                    "attention_output": "self_attn.o_proj",
                    "ffn_gate": "mlp.gate_proj",
                    "ffn_in": "mlp.up_proj",
                    "ffn_out": "mlp.down_proj",
                },
                ("input_layernorm", "post_attention_layernorm"),
            )
        },
        embeddings=("embed_tokens",),
        norms=("norm",),
    ),
}


@dataclass(frozen=True)
class Site:
    """One named place in a model.

    Attributes:
        name: in the course's vocabulary, e.g. "query".
        path: the module's full path in the model.
        module: the module itself.
        third: for a fused query-key-value matrix, which third of its outputs this is (0, 1, 2); else None.
    """

    name: str
    path: str
    module: nn.Module = field(repr=False)
    third: int | None = None


@dataclass(frozen=True)
class Layer:
    """One layer: its stack ("encoder" or "decoder"), its index there, its sites by name, its norms."""

    stack: str
    index: int
    sites: dict[str, Site]
    norms: tuple[Site, ...]


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model in one vocabulary.

    Attributes:
        architecture: "bert", "gpt2" …
        width: D, the width of the hidden states.
        layers: all layers, encoder before decoder.
        embeddings, norms, pooler: what stands outside the layers; each site's module is part of the base model.
        head: the modules outside the base model, by path: what a new task replaces.
    """

    model: nn.Module = field(repr=False)
    architecture: str
    width: int
    layers: tuple[Layer, ...] = field(repr=False)
    embeddings: tuple[Site, ...] = field(repr=False)
    norms: tuple[Site, ...] = field(repr=False)
    pooler: Site | None
    head: tuple[Site, ...]

    def sites(self, names: Iterable[str]) -> list[Site]:
        """Every site with one of these names, layer by layer.

        Raises:
            ValueError: if a name stands for nothing in this architecture; the message lists what there is.
        """
        names = tuple(names)
        known = sorted({name for layer in self.layers for name in layer.sites})
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"{self.architecture} has no {', '.join(unknown)}; it has {', '.join(known)}")
        return [layer.sites[name] for layer in self.layers for name in names if name in layer.sites]

    def layer_norms(self) -> list[Site]:
        """Every layer norm of the model: the embeddings', the layers', the final one."""
        return [*self.norms, *(norm for layer in self.layers for norm in layer.norms)]


def anatomy(model: nn.Module) -> Anatomy:
    """Find the parts of a transformers model (with or without a head).

    Raises:
        ValueError: if the architecture has no row in `ARCHITECTURES`.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"no anatomy for {kind!r}; there is one for {', '.join(ARCHITECTURES)}. "
            "A new one is one row in backbones.ARCHITECTURES"
        )
    row, base = ARCHITECTURES[kind], model.base_model
    prefix = next((f"{name}." for name, module in model.named_modules() if module is base and name), "")

    def site(name: str, path: str, third: int | None = None) -> Site:
        return Site(name, prefix + path, base.get_submodule(path), third)

    layers = []
    for stack_name, stack in row.stacks.items():
        for index in range(len(base.get_submodule(stack.layers))):
            at = f"{stack.layers}.{index}."
            sites = {name: site(name, at + path) for name, path in stack.parts.items()}
            if stack.fused:
                path, order = stack.fused
                sites = {name: site(name, at + path, third) for third, name in enumerate(order)} | sites
            layers.append(Layer(stack_name, index, sites, tuple(site("norm", at + path) for path in stack.norms)))
    pooler = site("pooler", row.pooler) if row.pooler and getattr(base, row.pooler, None) is not None else None
    children = [] if model is base else [(n, child) for n, child in model.named_children() if child is not base]
    head = tuple(Site("head", name, child) for name, child in children if any(True for _ in child.parameters()))
    embeddings = tuple(site("embedding", path) for path in row.embeddings)
    norms = tuple(site("norm", path) for path in row.norms)
    return Anatomy(model, kind, base.config.hidden_size, tuple(layers), embeddings, norms, pooler, head)
