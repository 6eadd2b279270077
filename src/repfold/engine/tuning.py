"""The fastest algorithm of each convolution, found by timing them on this machine instead of by the cost model.

What was found is kept in $XDG_CACHE_HOME/repfold/tuned (~/.cache by default), a small file for each model file,
processor and setting; it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from repfold import processor

ALGORITHMS = {"fp32": ("direct", "2x2", "4x2", "3x3", "4x4", "5x5"), "bf16": ("direct", "2x2")}
# What does not take less than so much of the time that the cost model's choices take is left to these.
_GAIN, _WHOLE_GAIN = 0.97, 0.99
_LAYER_ROUNDS, _NETWORK_ROUNDS = 7, 15

Shape = tuple[int, int, int, int]


class Engine(Protocol):
    """What is timed."""

    def __call__(self, images_NCHW: npt.NDArray[np.float32]) -> object:
        """Run the network."""

    def plan(self, batch: int, channels: int, height: int, width: int) -> dict[str, Any]:
        """What it does, layer by layer."""

    def time_layers(self, images_NCHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The seconds of each layer."""


@dataclass(frozen=True)
class Tuning:
    """What timing found.

    Attributes:
        choices: layer -> algorithm, of those layers for which another than the cost model's is faster.
        usual_ms: median of a call with the cost model's choices, in milliseconds.
        tuned_ms: median of a call with ``choices``; where that is hardly shorter, they are dropped.
    """

    choices: Mapping[str, str]
    usual_ms: float
    tuned_ms: float


def find(opened: Callable[[str], Engine], precision: str, shape: Shape, advance: Callable[[float], None]) -> Tuning:
    """Time all algorithms of all layers, then the network with the fastest of each beside what it was before.

    Args:
        opened: opens the network with a text for its convolutions.
        shape: of the images, [N, C, H, W].
        advance: is told which share is done.
    """
    usual = opened("auto")
    layers = usual.plan(*shape)["layers"]  # which refuses sizes that make no sense, before there are images of them
    images_NCHW = np.random.default_rng(0).standard_normal(shape, np.float32)
    seconds, algorithms = {}, ("auto", *ALGORITHMS[precision])
    for number, algorithm in enumerate(algorithms):  # one after the other, since each has weights of its own form
        engine = usual if algorithm == "auto" else opened(algorithm)
        rounds = [engine.time_layers(images_NCHW) for _ in range(_LAYER_ROUNDS)]
        seconds[algorithm] = np.min(rounds[1:], axis=0)
        advance((number + 1) / (len(algorithms) + 1))
    choices = {}
    for row, layer in enumerate(layers):
        fastest = min(ALGORITHMS[precision], key=lambda algorithm: seconds[algorithm][row])
        if "multiply_adds" in layer and seconds[fastest][row] < _GAIN * seconds["auto"][row]:
            choices[layer["name"]] = fastest
    usual_ms, tuned_ms = _in_turns(usual, opened(as_text(choices)), images_NCHW)
    advance(1.0)
    return Tuning(choices if tuned_ms < _WHOLE_GAIN * usual_ms else {}, usual_ms, tuned_ms)


def as_text(choices: Mapping[str, str]) -> str:
    """The choices as the native library reads them, all else left to the cost model."""
    return "\n".join(["auto", *(f"{name} {algorithm}" for name, algorithm in choices.items())])


def _in_turns(first: Engine, second: Engine, images_NCHW: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The median milliseconds of both."""
    milliseconds: tuple[list[float], list[float]] = [], []
    for _ in range(_NETWORK_ROUNDS):
        for engine, own in zip((first, second), milliseconds, strict=True):
            engine(images_NCHW)
            began = time.perf_counter()
            engine(images_NCHW)
            own.append((time.perf_counter() - began) * 1e3)
    return statistics.median(milliseconds[0]), statistics.median(milliseconds[1])


def kept_in(model: Path, *settings: object) -> Path | None:
    """Where the tuning of a model file on this processor is kept; None for a user without a home, or no file."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        with model.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, RuntimeError):
        return None
    key = hashlib.sha256(json.dumps([digest, processor.name(), *map(str, settings)]).encode()).hexdigest()
    return home / "repfold" / "tuned" / f"{key[:32]}.json"


def read(file: Path | None) -> Tuning | None:
    """What was kept; None where there is nothing, or it is damaged."""
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Tuning({str(k): str(v) for k, v in content["choices"].items()}, *map(float, content["milliseconds"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def write(file: Path | None, tuning: Tuning) -> None:
    """Keep a tuning, whole or not at all; where nothing can be written, nothing is."""
    if file is None:
        return
    content = {"choices": dict(tuning.choices), "milliseconds": [tuning.usual_ms, tuning.tuned_ms]}
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as temporary:
            json.dump(content, temporary, indent=1)
        os.replace(temporary.name, file)
