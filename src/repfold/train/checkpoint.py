"""Checkpoints: all that a run needs to go on, written whole or not at all, and checked before anything is believed."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.optim.averages import Average
from repfold.train.events import Record

FORMAT = "repfold-checkpoint-1"


class NotFiniteError(Exception):
    """A weight is not finite: what is in memory is not worth keeping."""


@dataclass
class State:
    """Where a run is: ``step`` steps of ``epoch`` (from 0) are done; ``loss_sum`` and ``hit_sum`` are over these.

    ``step`` may be all the steps of the epoch: its evaluation is then still to be done. ``records``: the epochs done.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    hit_sum: float = 0.0
    train_seconds: float = 0.0
    waited_seconds: float = 0.0
    best_epoch: int = 0
    best_top1: float = -1.0
    records: list[Record] = field(default_factory=list)

    def end_epoch(self, entry: Record) -> None:
        """Note that the epoch is done, with its record, and stand at the beginning of the next."""
        self.records.append(entry)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum = self.hit_sum = self.train_seconds = self.waited_seconds = 0.0


def save(
    path: Path,
    state: State,
    recipe_toml: str,
    network: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    average: Average | None = None,
) -> None:
    """Write a checkpoint atomically: whatever goes wrong, ``path`` holds the old one or the new one.

    Raises: NotFiniteError when a weight is not finite; OSError when the disk is full.
    """
    weights = network.state_dict()
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFiniteError(f"The network's '{name}' holds values that are not finite,")
    content = {
        "format": FORMAT,
        "recipe": recipe_toml,
        "state": asdict(state),
        "network": weights,
        "optimizer_kind": type(optimizer).__name__,
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "average": average.state_dict() if average else None,
    }
    with atomic.replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # PyTorch's writer does not pass on what the system said
            raise OSError(f"writing failed after {temporary.stat().st_size:,} bytes; is the disk full?") from error


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, refusing damaged ones. No code in it is ever run.

    Raises: RepFoldError that says what to do, for a file that is torn, corrupt or no checkpoint.
    """
    try:
        # torch.load does not compare checksums; the zip archive that it reads has one for each tensor.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RepFoldError(f"There is no checkpoint at {path}.") from error
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise RepFoldError(_unreadable(path, f"{type(error).__name__}: {str(error).splitlines()[0]}")) from error
    if damaged:
        raise RepFoldError(_unreadable(path, f"its part '{damaged}' fails its checksum"))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RepFoldError(_unreadable(path, "it is not a checkpoint of this version of RepFold"))
    return content


def restore(
    path: Path,
    content: dict[str, Any],
    network: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    average: Average | None = None,
) -> State:
    """Put the contents of a checkpoint into the network and what trains it; return where the run was.

    Raises: RepFoldError when it is of another network or optimizer.
    """
    own, saved = network.state_dict(), content["network"]
    odd = sorted(own.keys() ^ saved.keys()) or [name for name in own if own[name].shape != saved[name].shape]
    if odd:
        raise RepFoldError(
            f"{path} is of another network: {len(odd)} of its tensors differ, such as '{odd[0]}'. Resume with the "
            "model of the checkpoint, or start this one in another directory (--init loads the weights that fit)."
        )
    network.load_state_dict(saved)
    _restore_optimizer(path, content, optimizer)
    if content["scaler"] and scaler.is_enabled():
        scaler.load_state_dict(content["scaler"])
    if average and content["average"]:
        average.load_state_dict(content["average"])
    return State(**content["state"])


def _restore_optimizer(path: Path, content: dict[str, Any], optimizer: Optimizer) -> None:
    """Restore what the optimizer has gathered; what the recipe says of it (decay, momentum) stays the recipe's."""
    if content["optimizer_kind"] != type(optimizer).__name__:
        raise RepFoldError(
            f"{path} is of the optimizer {content['optimizer_kind']}, but the recipe says {type(optimizer).__name__}. "
            "Resume with the checkpoint's, or start in another directory (--init takes this run's weights)."
        )
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(content["optimizer"])
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def _unreadable(path: Path, reason: str) -> str:
    return (
        f"The checkpoint {path} cannot be read: {reason}. Copy a good one back, or delete it and start again "
        "(best.safetensors beside it is a model of its own, from which --init can start)."
    )
