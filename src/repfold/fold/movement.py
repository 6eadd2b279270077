"""Values that only pick or permute the channels of another: splits, shuffles, and equivalent reshapes.

A value's layout describes its axes in terms of a base [N, C, *size]: the examples, one of the image's axes, or numbers
that add up to the channel. So any sequence of splits and moves of channels yields their final order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from repfold.algebra import selection
from repfold.fold.pieces import Apply, Reading
from repfold.graph.graph import Value
from repfold.graph.sizes import Size, product


@dataclass(frozen=True, eq=False)
class Atom:
    """One axis, or a factor of one: axis ``axis`` of the base (0, 2, 3, …), or ``channels``: what each index adds."""

    size: Size
    axis: int | None = None
    channels: Tensor | None = None


@dataclass(frozen=True)
class AxisLayout:
    """``axes``: each axis as atoms, slowest first. ``offset``: what every index adds to the channel."""

    base: Value
    axes: tuple[tuple[Atom, ...], ...]
    offset: int = 0

    def with_axis(self, axis: int, atoms: tuple[Atom, ...]) -> AxisLayout:
        """The same layout with other atoms along ``axis``."""
        return replace(self, axes=(*self.axes[:axis], atoms, *self.axes[axis + 1 :]))


def read_selection(layouts: dict[Value, AxisLayout], value: Value) -> Apply | None:
    """``value`` as channels of the base that it was moved from, or None. Its layout is remembered for the next one."""
    if value.op not in _MOVES:
        return None
    source = value["x"] if "x" in value.arguments else value["self"]
    start = layouts.get(source) or _fresh(source)
    moved = _MOVES[value.op](start, value) if start is not None else None
    if moved is None:
        return None
    layouts[value] = moved
    index = _channel_index(moved, len(moved.base.shape))
    if index is None:
        return None
    conv = selection(index, _size(moved.base.shape[1]), len(moved.base.shape) - 2)
    return Apply(moved.base, Reading(conv.geometry, lambda state, dtype: conv.to(dtype)), is_free=True)


def _fresh(value: Value) -> AxisLayout | None:
    if len(value.shape) < 2 or not isinstance(value.shape[1], int):
        return None
    axes = [(Atom(size, axis),) for axis, size in enumerate(value.shape)]
    axes[1] = (Atom(value.shape[1], None, torch.arange(value.shape[1])),)
    return AxisLayout(value, tuple(axes))


def _size(size: Size) -> int:
    assert isinstance(size, int)
    return size


def _channel_index(layout: AxisLayout, rank: int) -> Tensor | None:
    """The channel of the base that each channel is, where nothing else was moved."""
    if len(layout.axes) != rank:
        return None
    for axis, atoms in enumerate(layout.axes):
        solid = [atom for atom in atoms if atom.size != 1 or atom.axis is not None]
        if axis != 1 and [(atom.axis, atom.size) for atom in solid] != [(axis, layout.base.shape[axis])]:
            return None
    index = _merged(layout.axes[1])
    return None if index is None else index + layout.offset


def _merged(atoms: tuple[Atom, ...]) -> Tensor | None:
    """What an axis of channel atoms adds to the channel, index by index."""
    total = torch.zeros(1, dtype=torch.int64)
    for atom in atoms:
        if atom.channels is None:
            return None
        total = (total[:, None] + atom.channels).flatten()
    return total


def _view(layout: AxisLayout, value: Value) -> AxisLayout | None:
    """New axes out of the old atoms in their order; an atom of channels is cut where it has to be."""
    waiting = [atom for axis in layout.axes for atom in axis if atom.size != 1]
    axes: list[tuple[Atom, ...]] = []
    for size in value.shape:
        taken: list[Atom] = []
        while size != product(tuple(atom.size for atom in taken)):
            if not waiting:
                return None
            atom = waiting.pop(0)
            have = product(tuple(a.size for a in taken))
            if (
                atom.channels is not None
                and isinstance(size, int)
                and isinstance(have, int)
                and have * _size(atom.size) > size
            ):
                parts = _cut(atom, size // have) if size % have == 0 else None
                if parts is None:
                    return None
                atom, rest = parts
                waiting.insert(0, rest)
            taken.append(atom)
            have = product(tuple(a.size for a in taken))
            if isinstance(size, int) and isinstance(have, int) and have > size:
                return None
        axes.append(tuple(taken) or (Atom(1, None, torch.zeros(1, dtype=torch.int64)),))
    return replace(layout, axes=tuple(axes)) if not waiting else None


def _cut(atom: Atom, first: int) -> tuple[Atom, Atom] | None:
    """An atom of channels as ``first`` times the rest, where what it adds is a sum over both."""
    assert atom.channels is not None
    if first < 1 or atom.channels.numel() % first:
        return None
    grid = atom.channels.reshape(first, -1)
    outer, inner = grid[:, 0], grid[0] - grid[0, 0]
    if not torch.equal(outer[:, None] + inner, grid):
        return None
    return Atom(first, None, outer), Atom(inner.numel(), None, inner)


def _permute(layout: AxisLayout, value: Value) -> AxisLayout | None:
    return replace(layout, axes=tuple(layout.axes[dim] for dim in value["dims"]))


def _indexed(layout: AxisLayout, dim: int, index: Tensor | slice) -> AxisLayout | None:
    """Some indices of an axis of channels."""
    along = _merged(layout.axes[dim])
    if along is None:
        return None
    picked = along[index]
    return layout.with_axis(dim, (Atom(picked.numel(), None, picked),))


def _slice(layout: AxisLayout, value: Value) -> AxisLayout | None:
    start, end = value["start"], value["end"]
    if not isinstance(start, int) or not (end is None or isinstance(end, int)):
        return None
    return _indexed(layout, value["dim"], slice(start, end, value["step"]))


def _select(layout: AxisLayout, value: Value) -> AxisLayout | None:
    dim, index = value["dim"], value["index"]
    along = _merged(layout.axes[dim])
    if along is None or not isinstance(index, int):
        return None
    axes = (*layout.axes[:dim], *layout.axes[dim + 1 :])
    return replace(layout, axes=axes, offset=layout.offset + int(along[index]))


def _flip(layout: AxisLayout, value: Value) -> AxisLayout | None:
    for dim in value["dims"]:
        along = _merged(layout.axes[dim])
        if along is None:
            return None
        layout = layout.with_axis(dim, (Atom(along.numel(), None, along.flip(0)),))
    return layout


def _shuffle(layout: AxisLayout, value: Value) -> AxisLayout | None:
    along = _merged(layout.axes[1])
    if along is None:
        return None
    mixed = along.reshape(value["groups"], -1).T.flatten()
    return layout.with_axis(1, (Atom(mixed.numel(), None, mixed),))


_MOVES = {
    "view": _view,
    "permute": _permute,
    "slice": _slice,
    "select": _select,
    "flip": _flip,
    "channel_shuffle": _shuffle,
}
