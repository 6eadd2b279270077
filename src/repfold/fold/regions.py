"""Growing regions: for every value, the affine convolutions of earlier values that it equals; then the choice of folds.

A region runs from one source to one target. Candidates are tried largest first; one is taken when it does not cost more
than the nodes that it makes superfluous.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from math import gcd
from typing import TypeGuard

import torch
from torch import fx

from repfold.algebra import (
    AffineConv,
    Geometry,
    Inexact,
    add,
    concatenate,
    concatenate_geometry,
    identity,
    identity_geometry,
    scale,
    sequence,
    sequence_geometry,
    split_groups,
    sum_geometry,
)
from repfold.fold.constants import arithmetic_dtype
from repfold.fold.pieces import CHANNELS_LAST, Apply, Concat, Cost, Opaque, Piece, Reading, Sum
from repfold.fold.read import multiply_adds
from repfold.fold.trace import Traced

LARGEST_TRIAL = 1 << 26  # weights; a larger candidate is not built only to count its zeros


@dataclass(frozen=True)
class Region:
    """target = one affine convolution of source; ``interior`` are the nodes between, target included."""

    source: fx.Node
    target: fx.Node
    reading: Reading
    interior: tuple[fx.Node, ...]
    before: Cost
    after: Cost


@dataclass(frozen=True)
class Left:
    """Linear nodes that were not folded together, and why."""

    node: fx.Node
    reason: str


Readings = dict[fx.Node, Reading]  # by source


@dataclass(frozen=True)
class Grown:
    """Every node's readings, nearest source first; for nodes that could not be joined to their operand, the reason."""

    traced: Traced
    pieces: dict[fx.Node, Piece]
    readings: dict[fx.Node, Readings]
    refusals: dict[fx.Node, str]
    position: dict[fx.Node, int]


def grow(traced: Traced, pieces: dict[fx.Node, Piece]) -> Grown:
    """Read every node as an affine convolution of each earlier value that it is one of."""
    readings: dict[fx.Node, Readings] = {}
    refusals: dict[fx.Node, str] = {}
    for node, piece in pieces.items():
        try:
            readings[node] = _grow_node(traced, readings, piece)
        except Inexact as refusal:
            readings[node] = {piece.source: piece.reading} if isinstance(piece, Apply) else {}
            refusals[node] = str(refusal)
    return Grown(traced, pieces, readings, refusals, {node: i for i, node in enumerate(traced.graph.nodes)})


def _grow_node(traced: Traced, readings: dict[fx.Node, Readings], piece: Piece) -> Readings:
    if isinstance(piece, Apply):
        if piece.source in traced.pinned:  # its value changes in place: only the node itself reads it at the right time
            return {}
        found = {piece.source: piece.reading}
        earlier = readings.get(piece.source, {})
        for i, (source, inner) in enumerate(earlier.items()):
            try:
                found[source] = _sequence(inner, piece.reading, trains=traced.root.training)
            except Inexact:
                if i == 0 and len(earlier) == 1:
                    raise
        return found
    if isinstance(piece, Sum):
        terms = [_with_itself(traced, readings, term) for term, _ in piece.terms]
        signs = [sign for _, sign in piece.terms]
        return _common(terms, partial(_sum, signs))
    if isinstance(piece, Concat):
        return _common([_with_itself(traced, readings, part) for part in piece.parts], _concatenate)
    return {}


def _common(operands: list[Readings], combine: Callable[[list[Reading]], Reading]) -> Readings:
    """The combined readings over every source that all operands share. Raises: Inexact when each one is refused."""
    shared = [source for source in operands[0] if all(source in other for other in operands[1:])]
    found: Readings = {}
    refusal: Inexact | None = None
    for source in shared:
        try:
            found[source] = combine([operand[source] for operand in operands])
        except Inexact as error:
            refusal = error
    if refusal is not None and not found:
        raise refusal
    return found


def _with_itself(traced: Traced, readings: dict[fx.Node, Readings], node: fx.Node) -> Readings:
    """A node's readings and, first, itself as the identity of itself."""
    known = readings.get(node, {})
    shape = traced.shape(node)
    if shape is None or len(shape) < 2 or node in traced.pinned:
        return known
    last = any(reading.channel_axis == CHANNELS_LAST for reading in known.values())
    channels, dimensions = (shape[-1], 0) if last else (shape[1], len(shape) - 2)
    itself = Reading(
        identity_geometry(channels, dimensions),
        partial(identity, channels, dimensions),
        CHANNELS_LAST if last else 1,
    )
    return {node: itself, **known}


def _sequence(inner: Reading, outer: Reading, *, trains: bool) -> Reading:
    if inner.channel_axis != outer.channel_axis:
        raise Inexact("channels on different axes")
    geometry = sequence_geometry(inner.geometry, outer.geometry, inner_bias_is_zero=True)
    inserts = any(axis.upsampling > 1 for axis in outer.geometry.axes)
    if inserts or (outer.geometry.pads and outer.geometry.mode == "zeros"):
        bias_is_zero = _bias_is_zero(inner, trains)
        geometry = sequence_geometry(inner.geometry, outer.geometry, inner_bias_is_zero=bias_is_zero)
    return Reading(geometry, lambda: sequence(_build(inner), _build(outer)), inner.channel_axis)


def _build(reading: Reading) -> AffineConv:
    """Its numbers in the dtype of the arithmetic, constants too."""
    return reading.build().to(arithmetic_dtype())


def _bias_is_zero(reading: Reading, trains: bool) -> bool:
    """Whether it is zero and stays so: one that trains is not to be relied on while the network is in train mode."""
    with torch.set_grad_enabled(trains):
        conv = reading.build()
    return conv.bias_is_zero() and not (trains and conv.bias is not None and conv.bias.requires_grad)


def _sum(signs: list[float], terms: list[Reading]) -> Reading:
    if len({term.channel_axis for term in terms}) > 1:
        raise Inexact("channels on different axes")

    def build() -> AffineConv:
        signed = (_build(t) if sign == 1 else scale(sign, _build(t)) for t, sign in zip(terms, signs, strict=True))
        return reduce(add, signed)

    return Reading(reduce(sum_geometry, (term.geometry for term in terms)), build, terms[0].channel_axis)


def _concatenate(parts: list[Reading]) -> Reading:
    if any(part.channel_axis == CHANNELS_LAST for part in parts):
        raise Inexact("a concatenation along another axis than the channels")
    geometry = concatenate_geometry([part.geometry for part in parts])
    return Reading(geometry, lambda: concatenate([_build(part) for part in parts]))


def choose(grown: Grown, policy: str) -> tuple[list[Region], list[Left]]:
    """Walk back from the outputs; at every value that is still needed take the largest region that pays."""
    traced, pieces = grown.traced, grown.pieces
    live = {node for node in traced.graph.nodes if not node.users or node in traced.pinned}
    regions: list[Region] = []
    left: list[Left] = []
    for node in reversed(traced.graph.nodes):
        if node not in live:
            continue
        piece = pieces[node]
        region, refused = (None, piece.reason) if isinstance(piece, Opaque) else _best(grown, node, policy, live)
        members = (node,) if region is None else region.interior
        live.update(node.all_input_nodes if region is None else (region.source,))
        if region is not None:
            regions.append(region)
        left += [Left(node, refused)] if refused else []
        left += [Left(member, grown.refusals[member]) for member in members if member in grown.refusals]
    return regions[::-1], left[::-1]


def _best(grown: Grown, target: fx.Node, policy: str, live: set[fx.Node]) -> tuple[Region | None, str | None]:
    """The region ending at ``target`` that saves most, and why a larger one was not taken; under "always" the largest.

    Of regions that save alike, the one that makes more nodes superfluous is taken, then the smaller: it recomputes
    nothing that others read as well.
    """
    best: Region | None = None
    most: tuple[int, int, int] | None = None
    refused: str | None = None
    for source, reading in grown.readings[target].items():
        interior = tuple(_between(grown, source, target))
        if not _is_worth_a_look(grown.pieces, interior):
            continue
        dead = _dead(interior, target, live)
        before = reduce(Cost.__add__, (getattr(grown.pieces[node], "cost", Cost()) for node in dead), Cost())
        candidate = Region(source, target, reading, interior, before, _cost(grown.traced, reading, source, target))
        candidate = _with_groups(grown, candidate)
        after = candidate.after
        saved = (before.multiply_adds - after.multiply_adds, before.parameters - after.parameters, len(dead))
        problem = _not_expressible(candidate.reading.geometry)
        if problem is None and policy == "always":
            best = candidate
        elif problem is None and after <= before:
            best, most = (candidate, saved) if most is None or saved > most else (best, most)
        else:
            refused = problem or _growth(candidate)
    return best, refused


def _between(grown: Grown, source: fx.Node, target: fx.Node) -> list[fx.Node]:
    """The nodes on the ways from source to target, target included, in the order of the graph."""
    reaches: dict[fx.Node, bool] = {source: True}

    def visit(node: fx.Node) -> bool:
        if node not in reaches:
            after_source = grown.position[node] > grown.position[source]
            reaches[node] = after_source and any([visit(operand) for operand in node.all_input_nodes])
        return reaches[node]

    visit(target)
    found = [node for node, reached in reaches.items() if reached and node is not source]
    return sorted(found, key=grown.position.__getitem__)


def _is_worth_a_look(pieces: dict[fx.Node, Piece], interior: tuple[fx.Node, ...]) -> bool:
    """A region holds a convolution and something besides, or a convolution whose weight is computed at every call."""
    active = [p for p in map(pieces.__getitem__, interior) if not isinstance(p, Opaque) and not _is_identity(p)]
    kernels = [p for p in active if isinstance(p, Apply) and p.is_kernel]
    return bool(kernels) and (len(active) > 1 or any(p.is_derived for p in kernels))


def _is_identity(piece: Piece) -> bool:
    """Dropout in eval mode and the like."""
    return _is_free(piece) and piece.reading.geometry.is_channelwise and piece.reading.geometry.is_pointwise


def _is_free(piece: Piece | None) -> TypeGuard[Apply]:
    return isinstance(piece, Apply) and piece.is_free


def _dead(interior: tuple[fx.Node, ...], target: fx.Node, live: set[fx.Node]) -> set[fx.Node]:
    """The target, and the nodes before it that nothing else reads once the region is folded."""
    dead = {target}
    for node in reversed(interior):
        if node is not target and node not in live and all(user in dead for user in node.users):
            dead.add(node)
    return dead


def _cost(traced: Traced, reading: Reading, source: fx.Node, target: fx.Node) -> Cost:
    in_shape, out_shape = traced.shape(source), traced.shape(target)
    assert in_shape is not None and out_shape is not None
    count = reading.geometry.weight_count
    return Cost(count, multiply_adds(reading.geometry, in_shape, out_shape, reading.channel_axis))


def _with_groups(grown: Grown, region: Region) -> Region:
    """Where channels were split and joined, the composite may be block-diagonal: count its groups by its zeros."""
    geometry = region.reading.geometry
    joined = any(isinstance(piece, Concat) or _is_free(piece) for piece in map(grown.pieces.get, region.interior))
    if region.after <= region.before or not joined or geometry.groups != 1 or geometry.weight_count > LARGEST_TRIAL:
        return region
    if grown.traced.root.training:  # what is zero now may be trained to be otherwise
        return region
    if gcd(geometry.in_channels, geometry.out_channels) == 1:
        return region
    with torch.no_grad():
        groups = split_groups(region.reading.build()).geometry.groups
    if groups == 1:
        return region
    build = region.reading.build
    reading = replace(region.reading, geometry=replace(geometry, groups=groups), build=lambda: split_groups(build()))
    return replace(region, reading=reading, after=_cost(grown.traced, reading, region.source, region.target))


def _not_expressible(geometry: Geometry) -> str | None:
    """Why PyTorch has no layer of this geometry, or None."""
    if len(geometry.axes) > 3:
        return "it has more than three spatial axes"
    for axis in geometry.axes:
        if axis.upsampling > 1:
            padding, extra = axis.extent - 1 - axis.low, axis.high - axis.low
            if axis.stride > 1 or padding < 0 or not 0 <= extra < max(axis.upsampling, axis.dilation):
                return "no transposed convolution of PyTorch has its padding"
    if any(a.upsampling > 1 for a in geometry.axes) and geometry.mode != "zeros":
        return f"no transposed convolution pads by '{geometry.mode}'"
    return None


def _growth(region: Region) -> str:
    before, after = region.before, region.after
    return (
        f"one convolution would cost more: {before.parameters:,} -> {after.parameters:,} parameters, "
        f"{before.multiply_adds:,} -> {after.multiply_adds:,} multiply-adds"
    )
