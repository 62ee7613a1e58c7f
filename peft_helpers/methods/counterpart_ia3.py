"""(IA)³ in huggingface/peft's files: (out, 1) where outputs are scaled, (1, in) where inputs are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.counterparts import PREFIX, Config, Counterpart, Tensors, require_targets, sites_at
from peft_helpers.methods.ia3 import IA3, ScaledInput, ScaledOutput
from peft_helpers.methods.surgery import features
from peft_helpers.methods.weight_change import PROJECTIONS, present

VECTOR = ".ia3_l"


def write_ia3(model: nn.Module) -> tuple[Config, Tensors]:
    """A third of GPT-2's c_attn that is not scaled gets ones; full paths, since peft's short names fit too much.

    Raises:
        ValueError: a module's input and output are scaled, of which peft can only do one.
    """
    method, anatomy = model.adaptation.method, model.adaptation.anatomy
    outputs, inputs = (
        list(dict.fromkeys(site.path for site in present(anatomy, names)))
        for names in (method.keys_and_values, method.feed_forward)
    )
    if both := sorted(set(outputs) & set(inputs)):
        raise ValueError(f"peft scales a module's inputs or its outputs; here it is both for {', '.join(both)}")
    tensors: Tensors = {}
    for path in (*outputs, *inputs):
        layer = model.get_submodule(path)
        if isinstance(layer, ScaledInput):
            tensors[f"{PREFIX}{path}{VECTOR}"] = layer.scale.detach()[None]
            continue
        whole = torch.ones(sum(features(site)[1] for site in sites_at(anatomy)[path]))
        while isinstance(layer, ScaledOutput):
            first = (layer.third or 0) * len(layer.scale)
            whole[first : first + len(layer.scale)] = layer.scale.detach()
            layer = layer.base
        tensors[f"{PREFIX}{path}{VECTOR}"] = whole[:, None]
    fused = any(isinstance(site.module, Conv1D) for site in anatomy.sites(("ffn_out",)))
    return {
        "target_modules": [*outputs, *inputs],
        "feedforward_modules": inputs,
        "fan_in_fan_out": fused,
        "init_ia3_weights": True,
    }, tensors


def read_ia3(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[IA3, Tensors]:
    """Ours from peft's: a vector's shape tells what it scales; a third of c_attn that has only ones is left out."""
    if strange := sorted(name for name in tensors if not (name.startswith(PREFIX) and name.endswith(VECTOR))):
        raise ValueError(f"unexpected for (IA)³ and a head: {', '.join(strange)}")
    vectors = {name.removeprefix(PREFIX).removesuffix(VECTOR): tensor for name, tensor in tensors.items()}
    require_targets(anatomy, config, vectors, sites_at(anatomy))
    outputs: list[tuple[Site, Tensor]] = []
    inputs: list[tuple[Site, Tensor]] = []
    for path, vector in vectors.items():
        sites = sites_at(anatomy)[path]
        width, total = features(sites[0])[0], sum(features(site)[1] for site in sites)
        if tuple(vector.shape) == (1, width):
            inputs.append((sites[0], vector[0]))
        elif tuple(vector.shape) == (total, 1):
            parts = zip(sites, vector[:, 0].chunk(len(sites)), strict=True)
            outputs += [(site, part) for site, part in parts if len(sites) == 1 or (part != 1).any()]
        else:
            allowed = f"(1, {width}) or ({total}, 1)"
            raise ValueError(f"{path}{VECTOR} has the shape {tuple(vector.shape)}; the module takes {allowed}")
    method = IA3(_names(anatomy, outputs), _names(anatomy, inputs))
    named = {f"{site.path}.scale": vector for site, vector in inputs}
    for site, vector in outputs:
        at = [other.third for other in present(anatomy, method.keys_and_values) if other.path == site.path]
        named[f"{site.path}{'.base' * (len(at) - 1 - at.index(site.third))}.scale"] = vector
    return method, named


def _names(anatomy: Anatomy, found: list[tuple[Site, Tensor]]) -> tuple[str, ...]:
    """The projections' names; every layer must have them."""
    there = {(site.path, site.third) for site, _ in found}
    names = tuple(name for name in PROJECTIONS if name in {site.name for site, _ in found})
    if not names:
        raise ValueError("(IA)³ here scales outputs and inputs; the folder has only one of them")
    if absent := [site.path for site in present(anatomy, names) if (site.path, site.third) not in there]:
        raise ValueError(f"(IA)³ here scales its targets in every layer; the folder has nothing for {absent[0]}")
    return names


SETTINGS = ("target_modules", "feedforward_modules", "fan_in_fan_out", "init_ia3_weights")
IA3_COUNTERPART = Counterpart("IA3", write_ia3, read_ia3, dict.fromkeys(SETTINGS))
