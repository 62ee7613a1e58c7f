"""Layer-norm tuning in huggingface/peft's files: a trained copy of each norm, under another name."""

from __future__ import annotations

from torch import nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.counterparts import PREFIX, Config, Counterpart, Tensors, require_targets
from peft_helpers.methods.layer_norms import LayerNormTuning
from peft_helpers.methods.surgery import trained_tensors

COPY = ".ln_tuning_layers."


def write_layer_norms(model: nn.Module) -> tuple[Config, Tensors]:
    """The norm at bert.embeddings.LayerNorm is saved as ….bert.embeddings.LayerNorm.ln_tuning_layers.{weight,bias}."""
    paths = [norm.path for norm in model.adaptation.anatomy.layer_norms()]
    split = {name.rpartition(".")[::2]: tensor for name, tensor in trained_tensors(model).items()}
    tensors = {f"{PREFIX}{path}{COPY}{name}": tensor for (path, name), tensor in split.items() if path in paths}
    return {"target_modules": paths}, tensors


def read_layer_norms(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[LayerNormTuning, Tensors]:
    """Ours trains all norms: a folder with some of them misses tensors, and is refused for it."""
    named = {name.removeprefix(PREFIX).replace(COPY, "."): tensor for name, tensor in tensors.items()}
    norms = [norm.path for norm in anatomy.layer_norms()]
    require_targets(anatomy, config, {name.rpartition(".")[0] for name in named}, norms)
    return LayerNormTuning(), named


LAYER_NORMS = Counterpart("LN_TUNING", write_layer_norms, read_layer_norms, {"target_modules": None})
