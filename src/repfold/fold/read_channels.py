"""Calls that only move samples: slices, splits, and reshapes that amount to picking or permuting channels.

A reshape is understood by moving numbered samples through it: whatever order the channels come out in is what it does.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from repfold.algebra import AffineConv, Axis, Geometry, selection
from repfold.fold.pieces import Apply, Opaque, Piece, Reading
from repfold.fold.trace import Traced

MOVES = frozenset(
    "view reshape flatten unflatten transpose swapaxes swapdims permute movedim squeeze unsqueeze narrow chunk split "
    "getitem contiguous unbind index_select flip".split()
)


@dataclass(frozen=True)
class Moved:
    """Where the samples of ``base`` are: their running numbers, as a tensor or a tuple of tensors."""

    base: fx.Node
    numbers: Any


def move(traced: Traced, moved: dict[fx.Node, Moved], node: fx.Node) -> Moved | None:
    """The numbered samples after ``node``, or None when it does not only move them."""
    if node.op not in ("call_function", "call_method") or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    operand = node.args[0]
    shape = traced.shape(operand)
    start = moved.get(operand) or (Moved(operand, torch.arange(prod(shape)).reshape(shape)) if shape else None)
    if name not in MOVES or start is None or start.base in traced.pinned:
        return None

    def known(other: fx.Node) -> Any:
        return start.numbers if other is operand else traced.values[other]

    arguments, keywords = fx.node.map_arg(node.args, known), fx.node.map_arg(node.kwargs, known)
    try:
        target = getattr(type(start.numbers), node.target) if isinstance(node.target, str) else node.target
        assert callable(target)
        return Moved(start.base, target(*arguments, **keywords))
    except Exception:  # a movement whose sizes hang on something that is no plain number: simply not understood
        return None


def read_moved(traced: Traced, state: Moved) -> Piece | None:
    """The numbered samples as a selection of whole channels of their base, or None."""
    shape = traced.shape(state.base)
    numbers = state.numbers
    if shape is None or not isinstance(numbers, Tensor) or len(shape) < 2 or numbers.dim() != len(shape):
        return None
    if numbers.shape[0] != shape[0] or tuple(numbers.shape[2:]) != shape[2:] or numbers.numel() == 0:
        return None
    per_channel = prod(shape[2:])
    index = numbers[0].reshape(numbers.shape[1], -1)[:, 0] // per_channel % shape[1]
    if not torch.equal(numbers, torch.arange(prod(shape)).reshape(shape)[:, index]):
        return None
    dimensions = len(shape) - 2
    reading = Reading(
        Geometry(shape[1], index.numel(), (Axis(),) * dimensions), lambda: selection(index, shape[1], dimensions)
    )
    return Apply(state.base, reading, is_free=True)


def read_slice(traced: Traced, node: fx.Node) -> Piece | None:
    """x[:, :, a:-b:s, …] as a crop and a stride, where the slice does not fix the size of the image."""
    if node.target is not operator.getitem or not isinstance(node.args[0], fx.Node):
        return None
    shape, index = traced.shape(node.args[0]), node.args[1]
    index = _without_ellipsis(index if isinstance(index, tuple) else (index,), len(shape or ()))
    if shape is None or len(shape) < 3 or not all(isinstance(part, slice) for part in index) or len(index) > len(shape):
        return None
    if any(part != slice(None) for part in index[:2]):
        return None
    axes = [_slice_axis(part) for part in index[2:]]
    if any(axis is None for axis in axes):
        return Opaque("a slice that fixes the size of the image")
    full = (*(axis for axis in axes if axis is not None), *(Axis(),) * (len(shape) - len(index)))
    geometry = Geometry(shape[1], shape[1], full, groups=shape[1])
    weight = torch.ones(geometry.weight_shape, dtype=torch.float64)
    return Apply(node.args[0], Reading(geometry, lambda: AffineConv(weight, None, geometry)), is_free=True)


def _without_ellipsis(index: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """x[..., a] as x[:, :, :, a]."""
    if index.count(...) != 1:
        return index
    place = index.index(...)
    return (*index[:place], *(slice(None),) * (rank - len(index) + 1), *index[place + 1 :])


def _slice_axis(part: Any) -> Axis | None:
    start, stop, step = part.start or 0, part.stop, part.step or 1
    if not all(isinstance(value, int) for value in (start, step)) or start < 0 or step < 1:
        return None
    if stop is not None and (not isinstance(stop, int) or stop >= 0):
        return None
    return Axis(1, step, -start, stop or 0)
