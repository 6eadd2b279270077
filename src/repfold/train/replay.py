"""A stretch of a training done again, beside the run that it was of."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from repfold.schedule import ScheduleWarning
from repfold.signals import Request
from repfold.train import checkpoint, run_lock
from repfold.train.assemble import Assembly
from repfold.train.checkpoint import State
from repfold.train.events import Listener
from repfold.train.loop import Loop
from repfold.train.position import Position
from repfold.train.run_directory import RunDirectory

# What differs from time to time: how long things took.
TIMES = frozenset({"train_seconds", "waited_seconds", "images_per_second", "waiting_share", "seconds"})
# The recipe's, and set anew at each step.
_SETTINGS = frozenset({"param_groups"})
_COMPARED = ("state", "network", "optimizer", "scaler", "average")


def replay(run: Assembly, start: dict[str, Any] | None, until: Position, emit: Listener) -> dict[str, Any]:
    """Train from the contents of a checkpoint (None: from how ``run`` was assembled) to ``until``.

    Returns: the contents of the checkpoint there. Files go into a directory that is removed.
    """
    with tempfile.TemporaryDirectory(prefix="repfold-verify-") as scratch:
        directory = Path(scratch)
        with run_lock.held(directory) as lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", ScheduleWarning)
            files, parts = RunDirectory(directory, run, lock), run.parts
            state = State()
            if start is not None:
                saved = copy.deepcopy(start)  # of which optimizers take tensors as their own
                state = checkpoint.restore(
                    directory, saved, parts.network, parts.optimizer, parts.scaler, parts.average
                )
            files.begin(state, None)
            Loop(files, emit, Request(), until).to_the_end(state)
            return checkpoint.read(files.checkpoint)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the keys at which the contents of two checkpoints differ in a bit; times are left out."""
    return [key_path for part in _COMPARED for key_path in _differences(one[part], other[part], part)]


def _differences(one: Any, other: Any, key_path: str) -> Iterator[str]:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield key_path
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in sorted((one.keys() | other.keys()) - TIMES - _SETTINGS, key=str):
            yield from _differences(one.get(key), other.get(key), f"{key_path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from _differences(mine, theirs, f"{key_path}[{number}]")
    elif one != other:
        yield key_path
