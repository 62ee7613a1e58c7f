"""LoRA in huggingface/peft's files: the same two matrices, but one pair for all of GPT-2's query, key and value."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.counterparts import PREFIX, Config, Counterpart, Tensors, require_targets, sites_at
from peft_helpers.methods.lora import LoRA, LoRALinear
from peft_helpers.methods.surgery import features

SIZES = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")
ELSEWHERE = ("target_modules", "lora_dropout", "fan_in_fan_out")  # the last concerns merging only
UNUSED = ("megatron_core", "qalora_group_size")  # what they belong to is refused
STARTS = (True, False, "gaussian", "orthogonal")  # further ones (PiSSA, OLoRA …) change the base, too


def write_lora(model: nn.Module) -> tuple[Config, Tensors]:
    """LoRA as peft has it: one A (r, in) and one B (out, r) a module, the same way around for Linear and Conv1D.

    GPT-2's query, key and value are thirds of one module, c_attn. Several of ours in it become one of peft's with the
    sum of the ranks: A holds theirs one below the other, B has a block for each in its own rows and columns, and zeros
    elsewhere. Alpha grows with the rank, so that the scale alpha / r stays.
    """
    method, anatomy = model.adaptation.method, model.adaptation.anatomy
    sites = anatomy.sites(method.targets)
    config: Config = {"r": method.rank, "lora_alpha": method.alpha, "lora_dropout": method.dropout, "bias": "none"}
    config |= {"rank_pattern": {}, "alpha_pattern": {}}
    config["target_modules"] = list(dict.fromkeys(site.path for site in sites))
    config["fan_in_fan_out"] = any(isinstance(site.module, Conv1D) for site in sites)
    tensors: Tensors = {}
    for path in config["target_modules"]:
        parts = _stacked(model.get_submodule(path))
        outputs = sum(features(site)[1] for site in sites_at(anatomy)[path])
        tensors[f"{PREFIX}{path}.lora_A.weight"] = torch.cat([part.down.weight for part in parts])
        up = torch.zeros(outputs, method.rank * len(parts))
        for number, part in enumerate(parts):
            first = (part.third or 0) * part.outputs
            columns = slice(number * method.rank, (number + 1) * method.rank)
            up[first : first + part.outputs, columns] = part.up.weight.detach()
        tensors[f"{PREFIX}{path}.lora_B.weight"] = up
        if len(parts) > 1:  # peft reads these names as regular expressions
            config["rank_pattern"][re.escape(path)] = method.rank * len(parts)
            config["alpha_pattern"][re.escape(path)] = method.alpha * len(parts)
    return config, tensors


def _stacked(module: nn.Module) -> list[LoRALinear]:
    """The LoRA layers around one module, from the inside to the outside: the order of `targets`."""
    found = []
    while isinstance(module, LoRALinear):
        found.insert(0, module)
        module = module.base
    return found


def read_lora(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[LoRA, Tensors]:
    """Ours from peft's.

    A foreign LoRA on GPT-2's c_attn becomes three of ours, on query, key and value, with the same A: each third of B
    has its own rows. One that `write_lora` made is taken apart again.
    """
    pairs = _pairs(tensors)
    require_targets(anatomy, config, pairs, sites_at(anatomy))
    sizes = {path: _size(config, path) for path in pairs}
    _require_shapes(anatomy, pairs, {path: rank for path, (rank, _) in sizes.items()})
    fused = [path for path in pairs if len(sites_at(anatomy)[path]) > 1]
    blocks = _blocks([pairs[path][1] for path in fused])
    parts = []  # (site, rank, alpha, A, B), one of our LoRA layers each
    for path, (down, up) in pairs.items():
        sites, (rank, alpha) = sites_at(anatomy)[path], sizes[path]
        if path not in fused:
            parts.append((sites[0], rank, alpha, down, up))
        elif blocks is None:
            parts += [(site, rank, alpha, down, up.chunk(3)[site.third]) for site in sites]
        else:
            part = rank // len(blocks)
            for number, third in enumerate(blocks):
                inside = slice(number * part, (number + 1) * part)
                block = up.chunk(3)[third][:, inside]
                parts.append((sites[third], part, alpha / len(blocks), down[inside], block))
    method = _one_lora(anatomy, parts, config.get("lora_dropout") or 0.0)
    return method, _our_names(anatomy, method, parts)


def _pairs(tensors: Tensors) -> dict[str, tuple[Tensor, Tensor]]:
    """Path of a module -> (A, B)."""
    found: dict[str, dict[str, Tensor]] = {}
    strange = []
    for name, tensor in tensors.items():
        match = re.fullmatch(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight", name)
        if match:
            found.setdefault(match[1], {})[match[2]] = tensor
        else:
            strange.append(name)
    if strange:
        raise ValueError(f"unexpected for LoRA and a head: {', '.join(sorted(strange))}")
    if half := sorted(f"{path}.lora_{side}.weight" for path, pair in found.items() for side in {"A", "B"} - set(pair)):
        raise ValueError(f"missing: {', '.join(half)}")
    return {path: (pair["A"], pair["B"]) for path, pair in found.items()}


def _size(config: Config, path: str) -> tuple[int, float]:
    """(rank, alpha) of one module, in our scale alpha / r; peft's variant with alpha / √r is converted."""

    def chosen(pattern: str, general: str) -> Any:  # peft's rule: the first pattern that the end of the path fits
        patterns = config.get(pattern) or {}
        fitting = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", path))
        return next(fitting, config.get(general, 8))  # 8: peft's default for both

    rank, alpha = chosen("rank_pattern", "r"), chosen("alpha_pattern", "lora_alpha")
    return rank, alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def _require_shapes(anatomy: Anatomy, pairs: dict[str, tuple[Tensor, Tensor]], ranks: dict[str, int]) -> None:
    wrong = []
    for path, pair in pairs.items():
        sites = sites_at(anatomy)[path]
        inputs, outputs = features(sites[0])[0], sum(features(site)[1] for site in sites)
        for side, tensor, wanted in zip("AB", pair, ((ranks[path], inputs), (outputs, ranks[path])), strict=True):
            if tuple(tensor.shape) != wanted:
                wrong.append(f"{path}.lora_{side}.weight: {tuple(tensor.shape)} in the file, {wanted} by its rank here")
    if wrong:
        raise ValueError(f"of another shape: {'; '.join(wrong)}")


def _blocks(ups: list[Tensor]) -> list[int] | None:
    """The third that each block of columns of c_attn's B changes, if there is one block a third, as we write it."""

    def reached(rows: Tensor) -> tuple[int, ...]:
        return tuple(third for third, part in enumerate(rows.chunk(3)) if part.any())

    used = sorted({third for up in ups for third in reached(up)})
    if not used or any(up.shape[1] % len(used) for up in ups):
        return None
    orders = {tuple(reached(block) for block in up.chunk(len(used), dim=1)) for up in ups}
    order = orders.pop()
    return [third for (third,) in order] if not orders and sorted(order) == [(third,) for third in used] else None


def _one_lora(anatomy: Anatomy, parts: list[tuple], dropout: float) -> LoRA:
    """The one method that all these layers belong to."""
    sizes = {(rank, alpha) for _, rank, alpha, _, _ in parts}
    if len(sizes) > 1:
        told = ", ".join(f"rank {rank} with alpha {alpha:g}" for rank, alpha in sorted(sizes))
        raise ValueError(f"LoRA here has one rank and one alpha for all its targets; the folder has {told}")
    found = {(site.path, site.third) for site, *_ in parts}
    names = {site.name for site, *_ in parts}
    targets = tuple(name for name in dict.fromkeys(n for layer in anatomy.layers for n in layer.sites) if name in names)
    absent = [site.path for site in anatomy.sites(targets) if (site.path, site.third) not in found]
    if absent:
        raise ValueError(
            f"LoRA here changes its targets in every layer; the folder has nothing for {', '.join(absent)}"
        )
    (rank, alpha) = sizes.pop()
    return LoRA(rank, float(alpha), targets, float(dropout))


def _our_names(anatomy: Anatomy, method: LoRA, parts: list[tuple]) -> Tensors:
    """Where `apply` will put these layers: several at one module stand around each other, the last target outside."""
    stacked: dict[str, list[int | None]] = {}
    for site in anatomy.sites(method.targets):
        stacked.setdefault(site.path, []).append(site.third)
    named: Tensors = {}
    for site, _, _, down, up in parts:
        outside = len(stacked[site.path]) - 1 - stacked[site.path].index(site.third)
        path = site.path + outside * ".base"
        named |= {f"{path}.down.weight": down, f"{path}.up.weight": up}
    return named


LORA = Counterpart(
    "LORA",
    write_lora,
    read_lora,
    settings=dict.fromkeys([*SIZES, *ELSEWHERE, *UNUSED]) | {"bias": ("none",), "init_lora_weights": STARTS},
    claims=lambda config: not config.get("use_dora"),
)
