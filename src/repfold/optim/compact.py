"""Kernel-shaped tensors of which little needs to be stored: zero outside a box, the same along most axes, or sparse.

The factors of constant-scale branches are such: a 3x3 branch has one factor per channel, a 1x1 branch the same at the
centre tap alone, an identity ones on a diagonal. Rules held so cost next to nothing beside the weights, in memory, in
checkpoints and in the optimizer's step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_SPARSE = 8  # stored entry by entry when fewer than one in so many inside the box differs from zero


@dataclass(frozen=True)
class CompactTensor:
    """A tensor of ``shape``: ``values``, broadcast over ``box`` (first, last + 1 along each axis), zero outside.

    With an ``index`` (int64, [entries]; counted as in a contiguous tensor) ``values`` are those entries instead.
    """

    shape: tuple[int, ...]
    box: tuple[tuple[int, int], ...]
    values: Tensor
    index: Tensor | None = None

    @property
    def is_zero(self) -> bool:
        """Whether no entry is stored."""
        return self.values.numel() == 0

    def entries(self) -> tuple[Any, ...]:
        """The index of the entries of a tensor of ``shape`` that may differ from zero."""
        if self.index is not None:
            return torch.unravel_index(self.index, self.shape)
        return tuple(slice(first, end) for first, end in self.box)

    def dense(self) -> Tensor:
        """The whole tensor."""
        tensor = self.values.new_zeros(self.shape)
        if not self.is_zero:
            tensor[self.entries()] = self.values
        return tensor

    def to(self, like: Tensor) -> CompactTensor:
        """The same with the dtype and on the device of ``like``."""
        index = None if self.index is None else self.index.to(like.device)
        return CompactTensor(self.shape, self.box, self.values.to(like), index)

    def to_state(self) -> dict[str, Any]:
        """Tensors and plain values, for a state_dict."""
        box = [list(pair) for pair in self.box]
        return {"shape": list(self.shape), "box": box, "values": self.values, "index": self.index}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CompactTensor:
        """The inverse of ``to_state``."""
        box = tuple((int(first), int(end)) for first, end in state["box"])
        return cls(tuple(state["shape"]), box, state["values"], state["index"])


def compact(tensor: Tensor) -> CompactTensor:
    """``tensor`` in its smallest exact form."""
    nonzero = tensor != 0
    box = tuple(_extent(nonzero, axis) for axis in range(tensor.dim()))
    inside = tensor[tuple(slice(first, end) for first, end in box)]
    for axis in range(inside.dim()):
        first = inside.narrow(axis, 0, min(1, inside.shape[axis]))
        if bool((inside == first).all()):
            inside = first
    count = int(inside.count_nonzero())
    if inside.numel() > max(_SPARSE * count, _SPARSE):
        index = nonzero.flatten().nonzero().flatten()
        return CompactTensor(tuple(tensor.shape), box, tensor.flatten()[index], index)
    return CompactTensor(tuple(tensor.shape), box, inside.clone())


def _extent(nonzero: Tensor, axis: int) -> tuple[int, int]:
    others = [other for other in range(nonzero.dim()) if other != axis]
    seen = (nonzero.any(others) if others else nonzero).nonzero().flatten()
    return (int(seen[0]), int(seen[-1]) + 1) if seen.numel() else (0, 0)
