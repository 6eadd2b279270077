"""The arguments of graph nodes as JSON values and back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from repfold.errors import RepFoldError
from repfold.models.vocabulary import DTYPES, MEMORY_FORMATS

_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|meta)(:\d{1,3})?")


def encode(value: Any, where: str) -> Any:
    """Write one argument. Raises: RepFoldError, naming the node or layer ``where``, for a value without a JSON form."""
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):  # also torch.Size; named tuples have no place among arguments
        return {"tuple": [encode(item, where) for item in value]}
    if isinstance(value, list):
        return [encode(item, where) for item in value]
    if isinstance(value, dict):
        return {"dict": {str(key): encode(item, where) for key, item in value.items()}}
    if isinstance(value, slice):
        return {"slice": [encode(item, where) for item in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.dtype) and str(value).removeprefix("torch.") in DTYPES:
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, torch.memory_format):
        return {"memory_format": str(value).removeprefix("torch.")}
    raise RepFoldError(
        f"'{where}' has an argument of type {type(value).__name__}, which a model file cannot hold. "
        "Such a network can be exported as .pt2 instead."
    )


def decode(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    """Read one argument; ``nodes`` are those before it. Raises: RepFoldError for what ``encode`` never writes."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [decode(item, nodes) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in _DECODERS:
            return _DECODERS[kind](content, nodes)
    raise RepFoldError(f"The graph has a malformed argument: {value!r:.100}.")


def _decode_node(content: Any, nodes: Mapping[str, fx.Node]) -> fx.Node:
    if content not in nodes:
        raise RepFoldError(f"The graph uses the result of '{content}' before it is computed.")
    return nodes[content]


def _decode_dict(content: Any, nodes: Mapping[str, fx.Node]) -> dict[str, Any]:
    if not all(key.isidentifier() for key in content):
        raise RepFoldError(f"The graph uses {list(content)!r:.100} as keys.")
    return {key: decode(item, nodes) for key, item in content.items()}


def _one_of(known: frozenset[str]) -> Callable[[Any, Any], Any]:
    def resolve(content: Any, nodes: Mapping[str, fx.Node]) -> Any:
        if content not in known:
            raise RepFoldError(f"The graph uses {content!r}; known: {', '.join(sorted(known))}.")
        return getattr(torch, content)

    return resolve


def _decode_device(content: Any, nodes: Mapping[str, fx.Node]) -> torch.device:
    if not isinstance(content, str) or not _DEVICE.fullmatch(content):
        raise RepFoldError(f"The graph uses {content!r} as a device.")
    return torch.device(content)


def _decode_float(content: Any, nodes: Mapping[str, fx.Node]) -> float:
    if content not in ("inf", "-inf", "nan"):
        raise RepFoldError(f"The graph uses {content!r} as a number.")
    return float(content)


_DECODERS: dict[str, Callable[[Any, Mapping[str, fx.Node]], Any]] = {
    "node": _decode_node,
    "tuple": lambda content, nodes: tuple(decode(item, nodes) for item in content),
    "slice": lambda content, nodes: slice(*(decode(item, nodes) for item in content)),
    "dict": _decode_dict,
    "ellipsis": lambda content, nodes: ...,
    "dtype": _one_of(DTYPES),
    "memory_format": _one_of(MEMORY_FORMATS),
    "device": _decode_device,
    "float": _decode_float,
}
