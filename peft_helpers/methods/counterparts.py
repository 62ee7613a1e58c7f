"""What a method of ours is in huggingface/peft's files.

To let a further method join, write its `Counterpart`, two functions and a few facts, in a file beside this one
(`counterpart_layer_norms` is the shortest), and enter it in `interchange.COUNTERPARTS`. `interchange` sees to the
files, the head, the backbone and all refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from peft_helpers.backbones import Anatomy, Site
from peft_helpers.methods.base import Method

PREFIX = "base_model.model."  # what peft puts before the path of a module of the model
Config = dict[str, Any]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Counterpart:
    """One of our methods in peft's terms.

    Attributes:
        peft_type: "LORA" …, as adapter_config.json has it.
        write: adapted model -> (settings for adapter_config.json, tensors by peft's full names), without the head.
        read: (anatomy of a fresh model, adapter_config.json, tensors by peft's full names, without the head) -> (our
            method, tensors by the names that `method.stored` has). It raises ValueError for what our method has not.
        settings: what may stand in adapter_config.json, by name: the values that our method can mean, or None for any.
            A further setting with a value that is not empty is refused: it might change the answers.
        claims: whether a folder of this peft_type is this method; DoRA and LoRA share one.
        head_prefix: what peft puts before the head's names; for prefixes and prompts it is "base_model.".
    """

    peft_type: str
    write: Callable[[nn.Module], tuple[Config, Tensors]]
    read: Callable[[Anatomy, Config, Tensors], tuple[Method, Tensors]]
    settings: dict[str, tuple | None] = field(default_factory=dict)
    claims: Callable[[Config], bool] = lambda config: True
    head_prefix: str = PREFIX


def require_targets(anatomy: Anatomy, config: Config, paths: Iterable[str], known: Collection[str]) -> None:
    """Refuse tensors for other modules than those that adapter_config.json names, and modules that we don't change.

    peft itself only warns of a missing tensor, and goes on with a random one.

    Args:
        paths: the modules that there are tensors for.
        known: the modules that our method can change.

    Raises:
        ValueError: every module that is missing, unexpected or not known is named.
    """
    paths, targets, saved = set(paths), config.get("target_modules"), config.get("modules_to_save") or []
    if not paths or not targets:
        raise ValueError(f"it changes nothing: target_modules is {targets!r}, with tensors for {len(paths)} modules")

    def meant(path: str) -> bool:  # peft's rule
        if any(re.match(rf"(^|.*\.){name}($|\..*)", path) for name in saved):
            return False
        if isinstance(targets, str):
            return re.fullmatch(targets, path) is not None
        return any(path == target or path.endswith(f".{target}") for target in targets)

    wanted = {path for path, _ in anatomy.model.named_modules() if meant(path)}
    wrong = [
        f"{what}: {', '.join(sorted(names))}"
        for what, names in (
            ("the config names, but the file lacks", wanted - paths),
            ("the file has, but the config does not name", paths - wanted),
            ("no target of a method here", (paths & wanted) - set(known)),
        )
        if names
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


def sites_at(anatomy: Anatomy) -> dict[str, list[Site]]:
    """Path of a module -> its sites: one, or for a fused matrix the three thirds in order."""
    found: dict[str, list[Site]] = {}
    for layer in anatomy.layers:
        for site in layer.sites.values():
            found.setdefault(site.path, []).append(site)
    return found
