"""Checkpoints: all that a run needs to go on, written whole or not at all, and checked before anything is believed.

A checkpoint is PyTorch's zip archive, and carries its own SHA-256 in the archive's comment.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from repfold import atomic, regular, run_files
from repfold.errors import RepFoldError
from repfold.optim.averages import Average
from repfold.train import checkpoint_schema
from repfold.train.checkpoint_schema import FORMAT, Mismatch
from repfold.train.events import Record
from repfold.train.position import Position

# The comment of a zip archive is what comes last, after two bytes of its length.
_SEAL = b"sha256:"
_SEAL_BYTES = 2 + len(_SEAL) + 2 * hashlib.sha256().digest_size
_BLOCK = 1 << 20


class NotFiniteError(Exception):
    """A weight is not finite: what is in memory is not worth keeping."""


class UnreadableError(RepFoldError):
    """A checkpoint cannot be read. ``what``: which, and why, in a sentence."""

    def __init__(self, path: Path, reason: str) -> None:
        self.what = f"The checkpoint {path} cannot be read: {reason}."
        super().__init__(
            f"{self.what} Copy a good one back, or delete it and start again ({run_files.BEST} beside it is a model of "
            "its own, from which --init can start)."
        )


@dataclass
class State:
    """Where a run is: ``step`` steps of ``epoch`` (from 0) are done; ``loss_sum`` and ``hit_sum`` are over these.

    ``step`` may be all the steps of the epoch: its evaluation is then still to be done. ``records``: the epochs done.
    ``best_sha256`` and ``best_confusion`` are of the file of the best epoch's network, and its confusion matrix.
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
    best_sha256: str = ""
    best_confusion: Tensor | None = field(default=None, compare=False)

    @property
    def position(self) -> Position:
        """Where that is."""
        return Position(self.epoch, self.step)

    def end_epoch(self, entry: Record) -> None:
        """Note that the epoch is done, with its record, and stand at the beginning of the next."""
        self.records.append(entry)
        self.begin_epoch(self.epoch + 1)

    def begin_epoch(self, epoch: int) -> None:
        """Stand at the beginning of ``epoch``."""
        self.epoch, self.step = epoch, 0
        self.loss_sum = self.hit_sum = self.train_seconds = self.waited_seconds = 0.0


def save(
    path: Path,
    state: State,
    recipe_toml: str,
    network: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    average: Average | None = None,
    surroundings: dict[str, Any] | None = None,
    previous: Path | None = None,
) -> None:
    """Write a checkpoint atomically: whatever goes wrong, ``path`` holds the old one or the new one.

    ``surroundings``: what the numbers depend on besides the recipe. ``previous``: where the old one goes; should the
    process be killed just then, it is there and ``path`` is missing.

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
        "surroundings": surroundings,
    }
    with atomic.replacing(path, previous=previous) as temporary:
        try:
            torch.save(content, temporary)
            _seal(temporary)
        except RuntimeError as error:  # PyTorch's writer does not pass on what the system said
            raise OSError(f"writing failed after {temporary.stat().st_size:,} bytes; is the disk full?") from error


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, refusing damaged and foreign ones. No code in it is ever run.

    Raises: RepFoldError that says what to do, for a file that is torn, corrupt or no checkpoint.
    """
    try:
        if is_sealed(path):
            damaged = None
        else:  # by an earlier version; torch.load does not compare checksums, but the archive has one a tensor
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
        if not damaged:
            checkpoint_schema.check(content)
    except FileNotFoundError as error:
        raise RepFoldError(f"There is no checkpoint at {path}.") from error
    except Mismatch as error:
        raise UnreadableError(path, str(error)) from error
    except pickle.UnpicklingError as error:  # whose message tells how to run the code in it
        raise UnreadableError(path, "it holds what is no tensor, number or text, or nothing whole") from error
    except Exception as error:  # whatever a damaged file makes the readers raise
        reason = next(iter(str(error).splitlines()), "")
        raise UnreadableError(path, f"{type(error).__name__}: {reason}") from error
    if damaged:
        raise UnreadableError(path, f"its part '{damaged}' fails its checksum")
    assert isinstance(content, dict)
    return content


def is_sealed(path: Path) -> bool:
    """Whether a checkpoint carries its SHA-256. Raises: Mismatch when it is that of other bytes, or torn."""
    with regular.opened(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _SEAL_BYTES))
        tail = file.read()
    if tail.endswith(b"\0\0"):  # an archive without a comment
        return False
    if not tail.startswith((_SEAL_BYTES - 2).to_bytes(2, "little") + _SEAL):
        raise Mismatch("it is no whole archive of PyTorch's")
    if tail[2 + len(_SEAL) :].decode("ascii", "replace") != sha256(path, size - len(tail)):
        raise Mismatch("its content fails its checksum")
    return True


def sha256(path: Path, length: int | None = None) -> str:
    """Return the SHA-256 of a file, or of its first ``length`` bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    left = path.stat().st_size if length is None else length
    with regular.opened(path) as file:
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def is_file_of(path: Path, known: str) -> bool:
    """Whether there is a regular file whose SHA-256 is ``known``."""
    try:
        return sha256(path) == known
    except OSError:
        return False


def _seal(path: Path) -> None:
    """Append the SHA-256 of an archive that has no comment to it, as its comment."""
    size = path.stat().st_size
    seal = _SEAL + sha256(path, size - 2).encode()
    with path.open("rb+") as file:
        file.seek(size - 2)
        assert file.read() == b"\0\0", "the archive ends in the length of its comment"
        file.seek(size - 2)
        file.write(len(seal).to_bytes(2, "little") + seal)


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
    try:
        checkpoint_schema.check_tensors(content["network"], network.state_dict(), "its")
        if average and content["average"]:
            checkpoint_schema.check_tensors(content["average"]["weights"], average.weights, "its averaged")
    except Mismatch as error:
        raise RepFoldError(
            f"{path} is of another network: {error}. Resume with the model of the checkpoint, or start this one in "
            "another directory (--init loads the weights that fit)."
        ) from error
    _check_optimizer(path, content, optimizer)
    try:  # first, since it may refuse what only it can check
        _restore_optimizer(content, optimizer)
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise UnreadableError(path, f"its optimizer is not one's state ({type(error).__name__}: {error})") from error
    network.load_state_dict(content["network"])
    if content["scaler"] and scaler.is_enabled():
        scaler.load_state_dict(content["scaler"])
    if average and content["average"]:
        average.load_state_dict(content["average"])
    return State(**content["state"])


def _check_optimizer(path: Path, content: dict[str, Any], optimizer: Optimizer) -> None:
    if content["optimizer_kind"] != type(optimizer).__name__:
        raise RepFoldError(
            f"{path} is of the optimizer {content['optimizer_kind']}, but the recipe says {type(optimizer).__name__}. "
            "Resume with the checkpoint's, or start in another directory (--init takes this run's weights)."
        )
    try:
        checkpoint_schema.check_optimizer(content["optimizer"], optimizer)
    except Mismatch as error:
        raise UnreadableError(path, str(error)) from error


def _restore_optimizer(content: dict[str, Any], optimizer: Optimizer) -> None:
    """Restore what the optimizer has gathered; what the recipe says of it (decay, momentum) stays the recipe's."""
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(content["optimizer"])
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
