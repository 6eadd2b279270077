"""How long the folded network of each arm takes for one image, timed side by side; kept with the trials."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repfold import atomic, models
from repfold.deploy import pytorch_form, time_forms
from repfold.errors import RepFoldError
from repfold.expand import expand
from repfold.fold import fold
from repfold.study.results import ArmResult, Results
from repfold.train import Recipe
from repfold.train.settings import resolve

_ROUNDS = 30


def latency(results: Results, store: Path, *, measure: bool) -> dict[str, float]:
    """Return arm -> median milliseconds of its folded network for one image, in PyTorch, on one thread, float32.

    Arms of one network share it. Known ones are read; with ``measure`` the others are timed, all side by side, the
    known ones too, so that they can be compared. What cannot be folded has none.
    """
    forms = {arm.arm.name: form for arm in results.arms if (form := _form(arm)) is not None}
    file = store / "latency.json"
    known = _read(file)
    keys = {name: _key(form) for name, form in forms.items()}
    together = hashlib.sha256(json.dumps(sorted(set(keys.values()))).encode()).hexdigest()[:16]
    if together not in known and measure and keys:
        known = {**known, together: _timed({keys[name]: form for name, form in forms.items()})}
        atomic.write_json(file, known)
    times = known.get(together, {})
    return {name: times[key] for name, key in keys.items() if key in times}


def _form(arm: ArmResult) -> dict[str, Any] | None:
    """Return what decides how fast the arm's network is: its structure, and the images that it sees."""
    if not arm.runs:
        return None
    data = arm.runs[0].environment.get("data", {})
    try:
        sizes = (int(data["classes"]), int(data["channels"]), int(data["image_size"]))
    except (KeyError, TypeError, ValueError):
        return None
    recipe = arm.arm.recipe
    if ":" in recipe.model:
        return None
    return {name: getattr(recipe, name) for name in ("model", "preset", "model_options", "norm", "expand")} | {
        "sizes": sizes
    }


def _key(form: Mapping[str, Any]) -> str:
    return json.dumps(form, sort_keys=True)


def _timed(forms: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    calls = {}
    for key, form in forms.items():
        with suppress(RepFoldError, RuntimeError):  # what cannot be folded is not deployed either
            calls[key] = pytorch_form(*_folded(form))
    if not calls:
        return {}
    timings = time_forms(calls, batch=1, rounds=_ROUNDS, threads=1)
    return {timing.form: timing.median_ms for timing in timings.of_batch(1)}


def _folded(form: Mapping[str, Any]) -> tuple[nn.Module, Tensor]:
    """Return the folded network, of random weights, and an image."""
    classes, channels, size = form["sizes"]
    model = resolve(Recipe(**{name: value for name, value in form.items() if name != "sizes"})).model
    torch.manual_seed(0)
    network = models.create(
        model.name, num_classes=classes, preset=model.preset, in_channels=channels, **model.plain_options
    )
    network = expand(network, model.expand, fresh=True) if model.expand else network
    x_NCHW = torch.rand(1, channels, size, size)
    plain, _ = fold(network.eval(), x_NCHW)
    return plain, x_NCHW


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}
