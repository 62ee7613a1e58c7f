"""peft_helpers: the small library that the course's notebooks use.

The modules follow the way data flows: `tasks` -> `backbones` -> `training` -> `evaluation`, `records` -> `plots`.
Importing this package is cheap: PyTorch, transformers and datasets are imported when something first needs them.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft_helpers.profiles import Profile as Profile
    from peft_helpers.profiles import setup as setup

__version__ = "0.1.0"

_MODULES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"))
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
