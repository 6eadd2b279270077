"""What a checkpoint must hold, checked before any of it is put anywhere: keys, types, and the shapes of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from repfold.counted import counted
from repfold.modules import differences

FORMAT = "repfold-checkpoint-1"
_LONGEST = 60  # characters of a wrong value that are shown


class Mismatch(Exception):
    """What is wrong, and where."""


@dataclass(frozen=True)
class MayLack:
    """A key that may be missing, as in checkpoints of before there was such a thing, or None."""

    wanted: Any


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words, and whether one is."""

    words: str
    accepts: Callable[[Any], bool]


def _are_tensors(value: Any) -> bool:
    return type(value).__name__ in ("dict", "OrderedDict") and all(
        type(key) is str and isinstance(tensor, Tensor) for key, tensor in value.items()
    )


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(line, dict) and all(type(key) is str and NUMBER.accepts(entry) for key, entry in line.items())
        for line in value
    )


COUNT = Kind("a whole number from 0", lambda value: type(value) is int and value >= 0)
NUMBER = Kind("a finite number", lambda value: type(value) in (int, float) and math.isfinite(value))
TEXT = Kind("text", lambda value: type(value) is str)
TENSORS = Kind("tensors by name", _are_tensors)
RECORDS = Kind("a list of records of finite numbers", _are_records)
MATRIX = Kind(
    "a square matrix", lambda value: isinstance(value, Tensor) and value.ndim == 2 and len(set(value.shape)) == 1
)
MAPPING = Kind("a mapping", lambda value: isinstance(value, dict))
LIST = Kind("a list", lambda value: isinstance(value, list))
ANYTHING = Kind("anything", lambda value: True)  # which the optimizer itself checks

STATE: dict[str, Any] = {
    "epoch": COUNT,
    "step": COUNT,
    "loss_sum": NUMBER,
    "hit_sum": NUMBER,
    "train_seconds": NUMBER,
    "waited_seconds": NUMBER,
    "best_epoch": COUNT,
    "best_top1": NUMBER,
    "records": RECORDS,
    "best_sha256": MayLack(TEXT),
    "best_confusion": MayLack(MATRIX),
}
CHECKPOINT: dict[str, Any] = {
    "format": TEXT,
    "recipe": TEXT,
    "state": STATE,
    "network": TENSORS,
    "optimizer_kind": TEXT,
    "optimizer": MAPPING,
    "scaler": MAPPING,
    "average": MayLack({"weights": TENSORS, "updates": COUNT}),
    "surroundings": MayLack(MAPPING),
}


def check(content: Any) -> None:
    """Raise Mismatch, saying where, when ``content`` is not what a checkpoint holds."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Mismatch("it is not a checkpoint of this version of RepFold")
    _check(content, CHECKPOINT, "")
    state = content["state"]
    if len(state["records"]) != state["epoch"] or state["best_epoch"] > state["epoch"]:
        raise Mismatch(
            f"it says that of {counted(state['epoch'], 'epoch')} done the best is {state['best_epoch']}, and has "
            f"the records of {len(state['records'])}"
        )


def check_tensors(saved: Mapping[str, Tensor], own: Mapping[str, Tensor], key_path: str) -> None:
    """Raise Mismatch when names, shapes or kinds of number differ from those of the network that is to take them."""
    if found := differences(_forms(own), _forms(saved)):
        raise Mismatch(f"{key_path} tensors differ: {found}")


def check_optimizer(saved: Any, optimizer: Optimizer) -> None:
    """Raise Mismatch when ``saved`` is not a state of this optimizer: other groups, or tensors of other shapes."""
    own = optimizer.state_dict()
    shapes = [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
    _check_optimizer(saved, own, shapes, "optimizer")


def _check_optimizer(saved: Any, own: Mapping[str, Any], shapes: Sequence[tuple[int, ...]], key_path: str) -> None:
    if "inner" in own:  # a Lookahead: another optimizer, and weights beside it
        _check(saved, {"inner_kind": TEXT, "inner": MAPPING, "slow": LIST, "taken": COUNT}, f"{key_path}.")
        if [_shape(entry) for entry in saved["slow"]] != list(shapes):
            raise Mismatch(f"its {key_path}.slow are not weights of this network")
        return _check_optimizer(saved["inner"], own["inner"], shapes, f"{key_path}.inner")
    known = {"state": MAPPING, "param_groups": LIST}
    _check(saved, known | {key: ANYTHING for key in own if key not in known}, f"{key_path}.")
    groups = [_indices(group) for group in saved["param_groups"]]
    if groups != [_indices(group) for group in own["param_groups"]]:
        raise Mismatch(f"its {key_path}.param_groups are not those of this network's parameters")
    for index, entries in saved["state"].items():
        if type(index) is not int or not 0 <= index < len(shapes) or not isinstance(entries, dict):
            raise Mismatch(f"its {key_path}.state has the entry {_shown(index)}, which is no parameter")
        for name, entry in entries.items():
            if isinstance(entry, Tensor) and entry.numel() != 1 and _shape(entry) != shapes[index]:
                raise Mismatch(
                    f"its {key_path}.state[{index}].{name} has the shape {list(entry.shape)}, and the parameter "
                    f"{list(shapes[index])}"
                )
    return None


def _indices(group: Any) -> Any:
    return group.get("params") if isinstance(group, dict) else None


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in tensors.items()}


def _check(value: Any, wanted: Any, key_path: str) -> None:
    if not isinstance(wanted, dict):
        if not wanted.accepts(value):
            raise Mismatch(f"its {key_path.removesuffix('.')} is {_shown(value)}, not {wanted.words}")
        return
    if not isinstance(value, dict):
        raise Mismatch(f"its {key_path.removesuffix('.')} is {_shown(value)}, not a mapping")
    if unknown := [key for key in value if key not in wanted]:
        raise Mismatch(f"it holds {_shown(key_path + str(unknown[0]))}, which no checkpoint of this version has")
    for key, kind in wanted.items():
        optional = isinstance(kind, MayLack)
        if key not in value and not optional:
            raise Mismatch(f"it has no {key_path}{key}")
        if not optional or value.get(key) is not None:
            _check(value[key], kind.wanted if optional else kind, f"{key_path}{key}.")


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | int | float | None) else f"of the type {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
