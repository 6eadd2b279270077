"""Training: recipes, one loop, evaluation, checkpoints, the record.

    result = train(Recipe(data="digits", model="repvgg-pico", preset="32px"), "runs/first")

Names are imported on first use, so that the command line can read the recipe's fields without loading PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repfold.train.evaluation import Metrics, evaluate
    from repfold.train.event_files import EventFiles
    from repfold.train.model_evaluation import evaluate_model
    from repfold.train.recipe import Recipe
    from repfold.train.run_lock import RunLostError
    from repfold.train.stopping import Stopped
    from repfold.train.training import RunResult, train

__all__ = [
    "EventFiles",
    "Metrics",
    "Recipe",
    "RunLostError",
    "RunResult",
    "Stopped",
    "evaluate",
    "evaluate_model",
    "train",
]

# Public name -> the module that defines it. None of them is the name of a module here, which would shadow it.
_HOMES = {
    "EventFiles": "event_files",
    "Metrics": "evaluation",
    "Recipe": "recipe",
    "RunLostError": "run_lock",
    "RunResult": "training",
    "Stopped": "stopping",
    "evaluate": "evaluation",
    "evaluate_model": "model_evaluation",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'repfold.train' has no attribute {name!r}")
    return getattr(importlib.import_module(f"repfold.train.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
