"""peft_helpers: the small library that the course's notebooks use.

The modules follow the way data flows: `tasks` -> `backbones` -> `training` -> `evaluation`, `records` -> `plots`.
Importing this package is cheap: PyTorch, transformers and datasets are imported when something first needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft_helpers.profiles import Profile as Profile
    from peft_helpers.profiles import setup as setup

__version__ = "0.1.0"

_MODULES = (
    "accounting", "adapter_records", "adapter_runs", "augmentation", "autograd", "backbones", "baselines", "checks",
    "decoder", "decoder_runs", "decoding", "descent_runs", "editions", "encoder", "evaluation", "experiments",
    "fitting_runs", "generation", "hub", "lesson", "lesson_figures", "live", "loss_runs", "losses", "meaning",
    "methods", "metrics", "objectives", "optimizer_comparison", "optimizer_runs", "optimizers", "overlap", "plots",
    "precision", "prefix", "prefix_records", "prefix_runs", "prefix_shares", "prefix_toy", "pretraining", "probing",
    "processes", "profiles", "pruning", "pruning_runs", "rate_range",
    "rate_sweep", "records", "schedule_sweep", "schedules", "small_network", "statistics", "storage", "subwords",
    "tasks", "training", "widgets",
)  # fmt: skip
_FROM_PROFILES = ("Profile", "setup")

__all__ = ["Profile", "__version__", "setup"]


def __getattr__(name: str):
    if name in _FROM_PROFILES:
        return getattr(importlib.import_module("peft_helpers.profiles"), name)
    if name in _MODULES:
        return importlib.import_module(f"peft_helpers.{name}")
    raise AttributeError(f"peft_helpers has no {name!r}; its modules are {', '.join(_MODULES)}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, *__all__])
