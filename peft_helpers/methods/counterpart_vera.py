"""VeRA in huggingface/peft's files: the two vectors of each module, and the random matrices once.

peft draws its matrices otherwise than the course, so folders go there with the matrices in them, and come back only if
they hold those that our seed draws.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.counterparts import PREFIX, Config, Counterpart, Tensors, require_targets, sites_at
from peft_helpers.methods.surgery import features
from peft_helpers.methods.vera import SharedMatrices, VeRA

SHARED = {"base_model.vera_A": "a", "base_model.vera_B": "b"}
VECTORS = {".vera_lambda_d": ".scale_rank", ".vera_lambda_b": ".scale_out"}


def write_vera(model: nn.Module) -> tuple[Config, Tensors]:
    """Vectors and matrices.

    Raises:
        ValueError: GPT-2's fused query, key and value, which in peft share one vector d.
    """
    method, sites = model.adaptation.method, model.adaptation.anatomy.sites(model.adaptation.method.targets)
    if fused := sorted({site.name for site in sites if site.third is not None}):
        raise ValueError(f"peft's VeRA has one vector d for GPT-2's query, key and value; here {fused[0]} has its own")
    shared = model.get_submodule(sites[0].path).shared
    tensors = {name: getattr(shared, ours) for name, ours in SHARED.items()}
    for site in sites:
        layer = model.get_submodule(site.path)
        tensors |= {f"{PREFIX}{site.path}{theirs}": getattr(layer, ours[1:]) for theirs, ours in VECTORS.items()}
    config = {
        "r": method.rank,
        "d_initial": method.start,
        "projection_prng_key": method.seed,
        "save_projection": True,
        "target_modules": [site.path for site in sites],
        "fan_in_fan_out": any(isinstance(site.module, Conv1D) for site in sites),
        "bias": "none",
    }
    return config, tensors


def read_vera(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[VeRA, Tensors]:
    """Ours back from a folder that `write_vera` made; peft's own have other matrices, and are refused."""
    tensors = dict(tensors)
    matrices = {ours: tensors.pop(name, None) for name, ours in SHARED.items()}
    named = {}
    for name, tensor in tensors.items():
        path, _, last = name.removeprefix(PREFIX).rpartition(".")
        if f".{last}" not in VECTORS:
            raise ValueError(f"unexpected for VeRA and a head: {name}")
        named[f"{path}{VECTORS[f'.{last}']}"] = tensor
    paths = {name.rpartition(".")[0] for name in named}
    require_targets(anatomy, config, paths, sites_at(anatomy))
    sites = [sites_at(anatomy)[path] for path in paths]
    if any(len(site) > 1 for site in sites):
        raise ValueError(
            "VeRA here has a vector d for each of GPT-2's query, key and value; the folder has one for all"
        )
    names = {site[0].name for site in sites}
    targets = tuple(name for name in dict.fromkeys(n for layer in anatomy.layers for n in layer.sites) if name in names)
    if absent := [site.path for site in anatomy.sites(targets) if site.path not in paths]:
        raise ValueError(f"VeRA here changes its targets in every layer; the folder has nothing for {absent[0]}")
    seed = config.get("projection_prng_key") or 0
    method = VeRA(config.get("r", 256), targets, config.get("d_initial", 0.1), seed)
    inputs, outputs = (max(sizes) for sizes in zip(*(features(site[0]) for site in sites), strict=True))
    drawn = SharedMatrices(inputs, outputs, method.rank, seed, torch.device("cpu"))
    if not all(m is not None and torch.equal(m.cpu(), getattr(drawn, ours)) for ours, m in matrices.items()):
        raise ValueError("its random matrices are not those that the seed draws here; peft draws them in another way")
    return method, named


SETTINGS = ("r", "d_initial", "projection_prng_key", "save_projection", "target_modules", "fan_in_fan_out")
VERA = Counterpart(
    "VERA",
    write_vera,
    read_vera,
    dict.fromkeys(SETTINGS) | {"bias": ("none",), "init_weights": (True, False), "vera_dropout": (0.0,)},
)
