"""Checkpoints of other code: the state_dict out of whatever was wrapped around it, read without running code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from repfold import regular
from repfold.errors import RepFoldError, first_line
from repfold.models import weights
from repfold.modules import differences, shapes

# Under these keys training scripts put the state_dict; averaged weights first, as those are the ones to deploy.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net")
# What wrappers of the network put before every key: DataParallel and DDP, torch.compile.
_PREFIXES = ("module.", "_orig_mod.")


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the state_dict in a .safetensors file, or in a file of torch.save (with weights_only).

    Unwraps {"state_dict": ...}, {"model": ...} and the like, and strips the prefixes of DDP and torch.compile.
    Raises: RepFoldError when the file is damaged, holds objects other than tensors, or no state_dict.
    """
    path = Path(path)
    if not path.is_file():
        raise RepFoldError(f"{path} is not a file.")
    with path.open("rb") as file:
        is_pickle = weights.is_pickle(file.read(9))
    state = unwrap(_read_pickle(path)) if is_pickle else weights.read_tensors(path)
    if not state:
        raise RepFoldError(
            f"{path} holds no state_dict: no names with tensors, neither at the top nor under {', '.join(_WRAPPERS)}."
        )
    return strip_prefixes(state)


def unwrap(content: object) -> dict[str, torch.Tensor]:
    """The state_dict in what a checkpoint holds; empty when there is none."""
    if not isinstance(content, Mapping):
        return {}
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping) and (inner := unwrap(content[key])):
            return inner
    tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    return tensors if len(tensors) == len(content) else {}


def strip_prefixes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove every prefix of a wrapper that all keys share."""
    stripped = dict(state)
    while stripped:
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in stripped)), None)
        if prefix is None:
            break
        stripped = {key.removeprefix(prefix): value for key, value in stripped.items()}
    return stripped


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint into ``network``; no tensor may be left over, on either side.

    Raises: RepFoldError that names the tensors that do not fit; the network is then untouched.
    """
    state = read_checkpoint(path)
    if found := differences(shapes(network.state_dict()), shapes(state)):
        raise RepFoldError(
            f"{path} does not fit {type(network).__name__}: {found}. Give the options (number of classes, say) with "
            "which the weights were trained."
        )
    try:
        weights.refuse_nan(state)
    except RepFoldError as error:
        raise RepFoldError(f"{path}: {error}") from error
    network.load_state_dict(state)


def _read_pickle(path: Path) -> Any:
    try:
        # An open file, since PyTorch reads files by their names: a pickle called .safetensors as what it is not.
        with regular.opened(path) as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RepFoldError(
            f"{path} holds more than tensors, and reading such a file can run code, so it is not read. Save the "
            f"network's state_dict() alone with torch.save or safetensors. ({first_line(error)})"
        ) from error
    except Exception as error:  # whatever a damaged file makes the unpickler raise
        raise RepFoldError(f"{path} is damaged or not a file of torch.save: {error!s:.200}") from error
