"""Training: recipes, one loop, evaluation, checkpoints, the record."""

from repfold.train.evaluate import Metrics, evaluate
from repfold.train.loop import RunResult, train
from repfold.train.recipe import Recipe
from repfold.train.stopping import Stopped

__all__ = ["Metrics", "Recipe", "RunResult", "Stopped", "evaluate", "train"]
