"""What a network takes and returns, besides tensors: containers, taken apart into leaves and put together again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from repfold.graph.graph import Value
from repfold.graph.sizes import Expression

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
LEAVES = (Tensor, Value, Expression, torch.SymInt, torch.SymFloat, torch.SymBool, *PLAIN)


class UnknownContainer(TypeError):
    """An object that is no tensor, no plain value and no container that can be taken apart; the message names it."""


def take_apart(value: object) -> list[Any]:
    """The leaves of ``value`` in order: tensors and plain values. Raises: UnknownContainer."""
    found: list[Any] = []
    rebuild(value, lambda leaf: found.append(leaf))
    return found


def containers(value: Any) -> Any:
    """The containers of ``value`` without its leaves; equal for two values of the same structure."""
    if isinstance(value, LEAVES):
        return None
    if isinstance(value, Mapping):
        return type(value), [(key, containers(item)) for key, item in value.items()]
    if dataclasses.is_dataclass(value):
        return type(value), [(f.name, containers(getattr(value, f.name))) for f in dataclasses.fields(value)]
    return type(value), [containers(item) for item in value]


def rebuild(value: object, change: Callable[[Any], Any]) -> Any:
    """``value`` with each leaf changed, its containers of the same kinds.

    Lists, tuples, named tuples, mappings (also a library's own, such as an OrderedDict of named outputs) and
    dataclasses are containers. Raises: UnknownContainer for anything else that is no tensor and no plain value.
    """
    if isinstance(value, LEAVES):
        return change(value)
    if isinstance(value, tuple):
        items = [rebuild(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [rebuild(item, change) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return type(value)(**{name: rebuild(item, change) for name, item in fields.items()})
    if isinstance(value, Mapping):
        entries = {key: rebuild(item, change) for key, item in value.items()}
        kind: Any = type(value)
        return entries if kind is dict else kind(entries)
    raise UnknownContainer(
        f"an object of type {type(value).__module__}.{type(value).__qualname__}, which cannot be taken apart into "
        "tensors"
    )
