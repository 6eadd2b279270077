"""RepFold: train rich, fold to plain, deploy fast.

    plain, certificate = repfold.fold(network, example)
    rich = repfold.expand(network, "dbb")
    network = repfold.models.create("repvgg-a0", num_classes=10)
    repfold.save(network, "network.safetensors")
    network = repfold.load("network.safetensors")  # or a run directory

Names are imported on first use, so that ``import repfold`` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repfold import models
    from repfold.expand import expand
    from repfold.fold import fold, profile
    from repfold.models import load, save

__version__ = "0.1.0"
__all__ = ["__version__", "expand", "fold", "load", "models", "profile", "save"]

# Public name -> the module that defines it; None for the module of that name.
_LAZY: dict[str, str | None] = {
    "blocks": None,
    "data": None,
    "deploy": None,
    "engine": None,
    "expand": "repfold.expand",
    "fold": "repfold.fold",
    "load": "repfold.models",
    "models": None,
    "norms": None,
    "optim": None,
    "profile": "repfold.fold",
    "report": None,
    "save": "repfold.models",
    "schedule": None,
    "train": None,
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'repfold' has no attribute {name!r}")
    home = _LAZY[name]
    return importlib.import_module(f"repfold.{name}") if home is None else getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY})


class _Package(ModuleType):
    """A package whose ``fold`` and ``expand`` are functions, although the modules that define them have those names.

    Importing ``repfold.fold`` binds the module as an attribute of this package: its function is bound instead.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _LAZY.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
