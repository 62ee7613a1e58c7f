"""AdaLoRA in huggingface/peft's files: A is our Q, B our P, E the singular values, (r, 1).

Theirs is scaled by alpha / (r + 1e-5), ours by alpha / r, so alpha is another there. A trained adapter of theirs is cut
down to the triplets that are left; here these stand among zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.adalora import AdaLoRA
from peft_helpers.methods.counterpart_lora import ELSEWHERE, STARTS, UNUSED
from peft_helpers.methods.counterparts import PREFIX, Config, Counterpart, Tensors, require_targets, sites_at

NAMES = {"lora_A": "q", "lora_B": "p", "lora_E": "singular"}
GUARD = 1e-5  # what peft adds to r
SCHEDULE = ("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step")


def write_adalora(model: nn.Module) -> tuple[Config, Tensors]:
    """All triplets, those whose singular value is 0 too; the schedule says that no more are taken out.

    Raises:
        ValueError: GPT-2's fused query, key and value, which in peft share one Q.
    """
    method = model.adaptation.method
    sites = model.adaptation.anatomy.sites(method.targets)
    if fused := sorted({site.name for site in sites if site.third is not None}):
        raise ValueError(f"peft's AdaLoRA has one Q for GPT-2's query, key and value; here {fused[0]} has its own")
    tensors: Tensors = {}
    for site in sites:
        layer = model.get_submodule(site.path)
        found = {theirs: getattr(layer, ours).detach() for theirs, ours in NAMES.items()}
        found["lora_E"] = found["lora_E"][:, None]
        tensors |= {f"{PREFIX}{site.path}.{name}": tensor for name, tensor in found.items()}
    config = {
        "init_r": method.rank,
        "target_r": method.rank,
        "tinit": 0,
        "tfinal": 0,
        "total_step": 1,  # peft wants a number; whoever trains on sets their own
        "lora_alpha": method.alpha * (method.rank + GUARD) / method.rank,
        "lora_dropout": method.dropout,
        "target_modules": [site.path for site in sites],
        "fan_in_fan_out": any(isinstance(site.module, Conv1D) for site in sites),
        "bias": "none",
    }
    return config, tensors


def read_adalora(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[AdaLoRA, Tensors]:
    """Ours from peft's."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        path, _, last = name.removeprefix(PREFIX).rpartition(".")
        if last not in NAMES or not name.startswith(PREFIX):
            raise ValueError(f"unexpected for AdaLoRA and a head: {name}")
        found.setdefault(path, {})[last] = tensor
    if half := sorted(f"{path}.{name}" for path, parts in found.items() for name in NAMES.keys() - parts.keys()):
        raise ValueError(f"missing: {', '.join(half)}")
    require_targets(anatomy, config, found, sites_at(anatomy))
    sites = [sites_at(anatomy)[path] for path in found]
    if any(len(site) > 1 for site in sites):
        raise ValueError("AdaLoRA here has a Q for each of GPT-2's query, key and value; the folder has one for all")
    names = {site[0].name for site in sites}
    targets = tuple(name for name in dict.fromkeys(n for layer in anatomy.layers for n in layer.sites) if name in names)
    if absent := [site.path for site in anatomy.sites(targets) if site.path not in found]:
        raise ValueError(f"AdaLoRA here changes its targets in every layer; the folder has nothing for {absent[0]}")
    rank = config.get("init_r", 12)  # peft's default; so is alpha's
    alpha = round(config.get("lora_alpha", 8) * rank / (rank + GUARD), 9)
    method = AdaLoRA(rank, alpha, targets, float(config.get("lora_dropout") or 0.0))
    named: Tensors = {}
    for path, parts in found.items():
        kept = _kept(config, path, rank)
        shapes = {name: tuple(tensor.shape) for name, tensor in parts.items()}
        if not shapes["lora_A"][:1] == shapes["lora_B"][1:] == shapes["lora_E"][:1] == (int(kept.sum()),):
            raise ValueError(f"{path} should have {int(kept.sum())} triplets by the configuration; got {shapes}")
        whole = parts["lora_A"].new_zeros(rank, parts["lora_A"].shape[1]).index_put((kept,), parts["lora_A"])
        other = parts["lora_B"].new_zeros(rank, len(parts["lora_B"])).index_put((kept,), parts["lora_B"].T)
        singular = parts["lora_E"].new_zeros(rank).index_put((kept,), parts["lora_E"].reshape(-1))
        named |= {f"{path}.q": whole, f"{path}.p": other.T, f"{path}.singular": singular}
    return method, named


def _kept(config: Config, path: str, rank: int) -> Tensor:
    """Which of a module's triplets are in the file, (r,): all of them before anything was taken out."""
    pattern = config.get("rank_pattern") or {}
    kept = pattern.get(f"{path}.lora_E")
    kept = torch.ones(rank, dtype=torch.bool) if kept is None else torch.tensor(kept, dtype=torch.bool).reshape(-1)
    if len(kept) != rank:
        raise ValueError(f"rank_pattern tells of {len(kept)} triplets of {path}; init_r is {rank}")
    return kept


ADALORA = Counterpart(
    "ADALORA",
    write_adalora,
    read_adalora,
    settings=dict.fromkeys(["r", "init_r", "lora_alpha", "rank_pattern", *SCHEDULE, *ELSEWHERE, *UNUSED])
    | {"bias": ("none",), "init_lora_weights": STARTS},
)
