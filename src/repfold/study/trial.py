"""A trial: one arm trained with one seed; and the key by which any study finds it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from repfold import run_files
from repfold.data.fingerprint import fingerprint
from repfold.data.settings import DataSettings
from repfold.data.source import PARTS, look_through
from repfold.errors import RepFoldError
from repfold.study import code
from repfold.train.recipe import Recipe
from repfold.train.settings import resolve

# Fields that say how a result is computed, or where its inputs lie, but not what it is.
_NOT_IN_KEY = {"threads", "data", *(field.name for field in dataclasses.fields(Recipe) if field.metadata["free"])}
_PATHS = ("init", "teacher", "scales")  # of which the content counts
_DEFAULTS: dict[str, Any] = json.loads(json.dumps(vars(Recipe())))
_WEIGHTS = (run_files.SCALES, run_files.BEST)


@dataclass(frozen=True)
class Trial:
    """``recipe`` is complete, seed included. ``arm`` is "" of a training that comes before the arms.

    ``measured``: what is to be measured of its network after training, a metric, or "". ``processes``: how many train
    it together; on CPUs each has BatchNorm statistics of its own, so that the result depends on it.
    """

    arm: str
    seed: int
    recipe: Recipe
    key: str
    keeps_weights: bool = False
    measured: str = ""
    processes: int = 1

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.arm}, seed {self.seed}" if self.arm else f"before: {self.recipe.model}"


def comparable(recipe: Recipe, seed: int) -> Recipe:
    """Return ``recipe`` with its ``seed``; images that no seed redraws, and float32 where the arms are compared."""
    fixed = {} if recipe.data_seed >= 0 else {"data_seed": 0}
    exact = {} if recipe.val_precision != "auto" else {"val_precision": "last-fp32"}
    return recipe.replace(seed=seed, **fixed, **exact)


def key_of(recipe: Recipe, before: Mapping[str, str], measured: str = "", processes: int = 1) -> str:
    """Return the key: a digest of the recipe, of the data themselves, and of networks and scales to start from.

    Args:
        before: directory -> key of the trainings that this one starts from.
        measured: what has to be measured besides training.
        processes: how many train it together.

    Raises: RepFoldError when the data cannot be read.
    """
    fields = {name: value for name, value in told(recipe).items() if value != _DEFAULTS[name]}
    fields |= {name: before.get(path := getattr(recipe, name)) or _content(path) for name in _PATHS}
    settings = resolve(recipe).data
    if not settings.spec:
        raise RepFoldError("The recipe names no data: give them as --data, or under [settings] of the study.")
    data = _fingerprint(settings.spec, settings.val_fraction, settings.per_class, settings.seed, settings.max_pixels)
    content: dict[str, Any] = {
        "recipe": fields,
        "data": data,
        "factory": code.digest_of_factory(recipe.model),
        "measured": measured,
    }
    content |= {"processes": processes} if processes > 1 else {}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def told(recipe: Recipe) -> dict[str, Any]:
    """Return the fields that a result depends on, as JSON has them."""
    fields: dict[str, Any] = json.loads(json.dumps(vars(recipe)))
    return {name: value for name, value in fields.items() if name not in _NOT_IN_KEY}


def is_told(fields: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether ``fields``, which ``told`` gave, perhaps of an older RepFold with fewer, are those of ``recipe``."""
    now = told(recipe)
    return all(fields.get(name, _DEFAULTS[name]) == value for name, value in now.items() if name not in _PATHS) and set(
        fields
    ) <= set(now)


@cache
def _fingerprint(spec: str, val_fraction: float, per_class: tuple[int, int] | None, seed: int, max_pixels: int) -> str:
    settings = DataSettings(
        spec, val_fraction=val_fraction, per_class=per_class, seed=seed, max_pixels=max_pixels, skip_broken=True
    )
    found = look_through(settings)
    return fingerprint([found.parts[name] for name in PARTS]).content


@cache
def _content(path: str) -> str:
    """Return the digest of a model file or of what is used of a run; the text itself where there is none."""
    files = [Path(path), *(Path(path) / name for name in _WEIGHTS)] if path else []
    for file in files:
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()
    return path
