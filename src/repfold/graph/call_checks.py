"""Checking calls of a graph's module: input sizes and plain values must be ones that the graph is valid for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.jit._trace import is_tracing

from repfold.errors import RepFoldError
from repfold.graph.graph import Check
from repfold.graph.sizes import Expression, from_json, to_json

_ADVICE = "Record or fold the network again with an example like this one."


def specification(inputs: Sequence[tuple[str, int]], checks: Sequence[Check]) -> str:
    """Names and numbers of axes of the inputs, and the conditions on their sizes, as ``check_call`` takes them."""
    conditions = [
        (to_json(check.condition), check.reason) for check in checks if isinstance(check.condition, Expression)
    ]
    return json.dumps({"inputs": list(inputs), "conditions": conditions})


def check_call(tensors: tuple[Tensor, ...], spec: str, plain: tuple[tuple[Any, Any, str], ...]) -> None:
    """Raise RepFoldError where the sizes, or ``plain`` values (given, recorded, name), violate the graph's conditions.

    Does nothing while PyTorch traces the forward, when there are no concrete sizes.
    """
    if torch.compiler.is_compiling() or is_tracing():
        return
    for given, recorded, name in plain:
        if not isinstance(given, fx.Proxy) and (isinstance(given, Tensor) or given != recorded):
            raise RepFoldError(
                f"{name} is {_short(given)}; the network was recorded with {recorded!r}, on which the result "
                f"may depend. {_ADVICE}"
            )
    if any(isinstance(tensor, fx.Proxy) for tensor in tensors):
        return
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise RepFoldError(f"The network takes a tensor where it was given {_short(tensor)}. {_ADVICE}")
    shapes = tuple(tuple(tensor.shape) for tensor in tensors)
    if all(type(size) is int for shape in shapes for size in shape):
        _check_sizes(shapes, spec)


@lru_cache(maxsize=1024)  # a specification is the same string on every call, and sizes repeat
def _check_sizes(shapes: tuple[tuple[int, ...], ...], spec: str) -> None:
    inputs, conditions = _parsed(spec)
    for (name, axes), shape in zip(inputs, shapes, strict=True):
        if len(shape) != axes:
            raise RepFoldError(
                f"{name} has {len(shape)} axes, {list(shape)}; the network was recorded with {axes}. {_ADVICE}"
            )
    sizes = {(i, axis): n for i, shape in enumerate(shapes) for axis, n in enumerate(shape)}
    for condition, reason in conditions:
        if not Check(condition, reason).holds(sizes):
            names = [name for name, _ in inputs]
            given = ", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes, strict=True))
            raise RepFoldError(
                f"The network was called with {given}; its graph holds where {_text(condition, names)}: {reason}. "
                f"{_ADVICE}"
            )


def _text(size: object, names: Sequence[str], *, inside: bool = False) -> str:
    """A size or a condition as Python writes it."""
    if not isinstance(size, Expression):
        return str(size)
    if size.op == "size":
        index, axis = size.operands
        return f"{names[index]}.size({axis})"
    if size.op.isalpha() and size.op not in ("and", "or"):
        return f"{size.op}({', '.join(_text(operand, names) for operand in size.operands)})"
    text = f" {size.op} ".join(_text(operand, names, inside=True) for operand in size.operands)
    return f"({text})" if inside else text


@lru_cache(maxsize=128)
def _parsed(spec: str) -> tuple[list[tuple[str, int]], list[tuple[Expression, str]]]:
    content = json.loads(spec)
    return content["inputs"], [(from_json(condition), reason) for condition, reason in content["conditions"]]


def _short(value: object) -> str:
    return "a tensor" if isinstance(value, Tensor) else f"{value!r:.60}"
