"""DoRA in huggingface/peft's files: its LoRA, and one magnitude for each output of a module."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.counterpart_lora import LORA, read_lora, write_lora
from peft_helpers.methods.counterparts import PREFIX, Config, Tensors, sites_at
from peft_helpers.methods.dora import DoRA, DoRALinear
from peft_helpers.methods.weight_change import matrix

MAGNITUDE = ".lora_magnitude_vector"


def write_dora(model: nn.Module) -> tuple[Config, Tensors]:
    """A third of GPT-2's c_attn that is no target gets its weights' own lengths, which change nothing."""
    config, tensors = write_lora(model)
    for path in config["target_modules"]:
        layer = model.get_submodule(path)
        whole = matrix(layer.innermost).detach().float().norm(dim=1)
        while isinstance(layer, DoRALinear):
            first = (layer.third or 0) * layer.outputs
            whole[first : first + layer.outputs] = layer.magnitude.detach()
            layer = layer.base
        tensors[f"{PREFIX}{path}{MAGNITUDE}"] = whole
    return config | {"use_dora": True}, tensors


def read_dora(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[DoRA, Tensors]:
    """Ours from peft's; a third of c_attn that our targets leave out must have its weights' own lengths."""
    given = {name: tensor for name, tensor in tensors.items() if name.endswith(MAGNITUDE)}
    lora, named = read_lora(anatomy, config, {name: t for name, t in tensors.items() if name not in given})
    by_path = {name.removeprefix(PREFIX).removesuffix(MAGNITUDE): tensor for name, tensor in given.items()}
    sites = anatomy.sites(lora.targets)
    if wrong := sorted({site.path for site in sites} ^ by_path.keys()):
        raise ValueError(f"a matrix and a magnitude for each module are needed; not so for {', '.join(wrong)}")
    chosen = {(site.path, site.third) for site in sites}
    for path, whole in by_path.items():
        for site in sites_at(anatomy)[path]:
            part = whole if site.third is None else whole.chunk(3)[site.third]
            lengths = matrix(site.module, site.third).detach().float().norm(dim=1)
            if part.shape != lengths.shape:
                raise ValueError(f"{path}{MAGNITUDE} has the shape {tuple(whole.shape)}, which does not fit the module")
            if (path, site.third) in chosen:
                at = [other.third for other in sites if other.path == path]
                outside = ".base" * (len(at) - 1 - at.index(site.third))  # the last target stands outside
                named[f"{path}{outside}.magnitude"] = part
            elif not torch.allclose(part.float(), lengths.to(part.device), rtol=1e-5):
                raise ValueError(f"{path}{MAGNITUDE} changes the {site.name}, for which there is no low-rank change")
    return DoRA(**lora.settings()), named


DORA = replace(
    LORA,
    write=write_dora,
    read=read_dora,
    settings=LORA.settings | {"use_dora": (True,)},
    claims=lambda config: bool(config.get("use_dora")),
)
