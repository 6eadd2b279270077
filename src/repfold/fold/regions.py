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
from torch import nn

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
from repfold.fold.constants import Constants
from repfold.fold.cost import NOTHING, Cost
from repfold.fold.pieces import Apply, Concat, Opaque, Piece, Reading, State, Sum
from repfold.fold.read import multiply_adds
from repfold.graph.graph import INPUT, STATE, Graph, Value

LARGEST_TRIAL = 1 << 26  # weights; a larger candidate is not built only to count its zeros


@dataclass(frozen=True)
class Region:
    """target = one affine convolution of source; ``interior`` are the values between, target included."""

    source: Value
    target: Value
    reading: Reading
    interior: tuple[Value, ...]
    before: Cost
    after: Cost


@dataclass(frozen=True)
class Unfolded:
    """A linear value that was not folded into another, and why."""

    value: Value
    reason: str


Readings = dict[Value, Reading]  # by source


@dataclass(frozen=True)
class Grown:
    """Every value's readings, nearest source first; for values that could not be joined to their operand, the reason.

    ``state``: the graph's tensors. ``trains``: whether they are being trained, so that what is zero may not stay so.
    """

    graph: Graph
    constants: Constants
    state: State
    pieces: dict[Value, Piece]
    readings: dict[Value, Readings]
    refusals: dict[Value, str]
    trains: bool


def grow(constants: Constants, state: State, pieces: dict[Value, Piece], *, trains: bool = False) -> Grown:
    """Read every value as an affine convolution of each earlier value that it is one of."""
    grown = Grown(constants.graph, constants, state, pieces, {}, {}, trains)
    for value, piece in pieces.items():
        try:
            grown.readings[value] = _grow_value(grown, value, piece)
        except Inexact as refusal:
            grown.readings[value] = {piece.source: piece.reading} if isinstance(piece, Apply) else {}
            grown.refusals[value] = str(refusal)
    return grown


def _grow_value(grown: Grown, value: Value, piece: Piece) -> Readings:
    if isinstance(piece, Apply):
        found = {piece.source: piece.reading}
        earlier = _joinable(grown, piece.source, value)
        for i, (source, inner) in enumerate(earlier.items()):
            try:
                found[source] = _sequence(grown, inner, piece.reading)
            except Inexact:
                if i == 0 and len(earlier) == 1:
                    raise
        return found
    if isinstance(piece, Sum):
        terms = [_with_itself(grown, term, value) for term, _ in piece.terms]
        signs = [sign for _, sign in piece.terms]
        return _common(terms, partial(_sum, signs))
    if isinstance(piece, Concat):
        return _common([_with_itself(grown, part, value) for part in piece.parts], _concatenate)
    return {}


def _joinable(grown: Grown, operand: Value, reader: Value) -> Readings:
    """The operand's readings, where gradients pass between the two as they would in one layer."""
    if operand.op not in (INPUT, STATE) and operand.grad != reader.grad:
        if grown.readings.get(operand):
            raise Inexact("torch.no_grad stops gradients between the two; a fold would let them through")
        return {}
    return grown.readings.get(operand, {})


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


def _with_itself(grown: Grown, operand: Value, reader: Value) -> Readings:
    """An operand's readings and, first, itself as the identity of itself."""
    known = _joinable(grown, operand, reader)
    shape = operand.shape
    if len(shape) < 2:
        return known
    last = len(shape) == 2 or any(reading.channels_last for reading in known.values())
    channels, dimensions = (shape[-1], 0) if last else (shape[1], len(shape) - 2)
    if not isinstance(channels, int):
        return known
    itself = Reading(
        identity_geometry(channels, dimensions), lambda state, dtype: identity(channels, dimensions, dtype)
    )
    return {operand: itself, **known}


def _sequence(grown: Grown, inner: Reading, outer: Reading) -> Reading:
    if inner.channels_last != outer.channels_last:
        raise Inexact("channels on different axes")
    geometry = sequence_geometry(inner.geometry, outer.geometry, inner_bias_is_zero=True)
    inserts = any(axis.upsampling > 1 for axis in outer.geometry.axes)
    if inserts or (outer.geometry.pads and outer.geometry.mode == "zeros"):
        bias_is_zero = _bias_is_zero(grown, inner)
        geometry = sequence_geometry(inner.geometry, outer.geometry, inner_bias_is_zero=bias_is_zero)
    return Reading(geometry, lambda state, dtype: sequence(inner.build(state, dtype), outer.build(state, dtype)))


def _bias_is_zero(grown: Grown, reading: Reading) -> bool:
    """Whether it is zero and stays so: one that trains is not to be relied on while the network is in train mode."""
    with torch.set_grad_enabled(grown.trains):
        conv = reading.build(grown.state, torch.float64)
    return conv.bias_is_zero() and not (grown.trains and conv.bias is not None and conv.bias.requires_grad)


def _sum(signs: list[float], terms: list[Reading]) -> Reading:
    if len({term.channels_last for term in terms}) > 1:
        raise Inexact("channels on different axes")

    def build(state: State, dtype: torch.dtype) -> AffineConv:
        convs = [term.build(state, dtype) for term in terms]
        return reduce(add, (c if sign == 1 else scale(sign, c) for c, sign in zip(convs, signs, strict=True)))

    return Reading(reduce(sum_geometry, (term.geometry for term in terms)), build)


def _concatenate(parts: list[Reading]) -> Reading:
    geometry = concatenate_geometry([part.geometry for part in parts])
    return Reading(geometry, lambda state, dtype: concatenate([part.build(state, dtype) for part in parts]))


def choose(grown: Grown, policy: str) -> tuple[list[Region], list[Unfolded]]:
    """Walk back from the results; at every value that is still needed take the largest region that pays."""
    live = set(grown.graph.results)
    regions: list[Region] = []
    left: list[Unfolded] = []
    for value in reversed(grown.graph.values):
        if value not in live:
            continue
        piece = grown.pieces[value]
        region, refused = (None, piece.reason) if isinstance(piece, Opaque) else _best(grown, value, policy, live)
        members = (value,) if region is None else region.interior
        live.update(value.operands if region is None else (region.source,))
        if region is not None:
            regions.append(region)
        left += [Unfolded(value, refused)] if refused else []
        left += [Unfolded(member, grown.refusals[member]) for member in members if member in grown.refusals]
    return regions[::-1], left[::-1]


def _best(grown: Grown, target: Value, policy: str, live: set[Value]) -> tuple[Region | None, str | None]:
    """The region ending at ``target`` that saves most, and why a larger one was not taken; under "always" the largest.

    Of regions that save alike, the one that makes more values superfluous is taken, then the smaller: it recomputes
    nothing that others read as well.
    """
    best: Region | None = None
    most: tuple[int, int, int] | None = None
    refused: str | None = None
    for source, reading in grown.readings[target].items():
        interior = tuple(_between(grown.graph, source, target))
        if not _is_worth_a_look(grown.pieces, interior):
            continue
        dead = _dead(grown.graph, interior, target, live)
        before = reduce(Cost.__add__, (getattr(grown.pieces[value], "cost", NOTHING) for value in dead), NOTHING)
        candidate = Region(source, target, reading, interior, before, _cost(grown.graph, reading, source, target))
        candidate = _with_groups(grown, candidate)
        after = candidate.after
        saved = (before.multiply_adds - after.multiply_adds, before.parameters - after.parameters, len(dead))
        problem = _not_expressible(candidate.reading.geometry)
        if policy != "always":
            problem = problem or _unties(grown, interior)
        if problem is None and policy == "always":
            best = candidate
        elif problem is None and after <= before and _runs_no_more(grown.pieces, dead, after):
            best, most = (candidate, saved) if most is None or saved > most else (best, most)
        else:
            refused = problem or _growth(candidate)
    return best, refused


def _between(graph: Graph, source: Value, target: Value) -> list[Value]:
    """The values on the ways from source to target, target included, in the order of the graph."""
    reaches: dict[Value, bool] = {source: True}

    def visit(value: Value) -> bool:
        if value not in reaches:
            after_source = graph.position[value] > graph.position[source]
            reaches[value] = after_source and any([visit(operand) for operand in value.operands])
        return reaches[value]

    visit(target)
    found = [value for value, reached in reaches.items() if reached and value is not source]
    return sorted(found, key=graph.position.__getitem__)


def _is_worth_a_look(pieces: dict[Value, Piece], interior: tuple[Value, ...]) -> bool:
    """A region holds a convolution and something besides, or a convolution whose weight is computed at every call."""
    found = [p for p in map(pieces.__getitem__, interior) if not isinstance(p, Opaque)]
    active = [p for p in found if not _is_identity(p) and not _stays_a_padding(p)]
    kernels = _kernels(pieces, interior)
    return bool(kernels) and (len(active) > 1 or any(p.is_derived for p in kernels))


def _kernels(pieces: dict[Value, Piece], values: tuple[Value, ...]) -> list[Apply]:
    return [p for p in map(pieces.__getitem__, values) if isinstance(p, Apply) and p.is_kernel]


def _runs_no_more(pieces: dict[Value, Piece], dead: set[Value], after: Cost) -> bool:
    """Whether the layer multiplies no more than the layers that it replaces, norms and scales apart."""
    replaced = _kernels(pieces, tuple(dead))
    return bool(replaced) and after.multiply_adds <= sum(piece.cost.multiply_adds for piece in replaced)


def _is_identity(piece: Piece) -> bool:
    """Dropout in eval mode and the like."""
    return _is_free(piece) and piece.reading.geometry.is_channelwise and piece.reading.geometry.is_pointwise


def _stays_a_padding(piece: Piece) -> bool:
    """Padding by other values than zeros, which no convolution of a graph does itself."""
    return _is_free(piece) and piece.reading.geometry.pads and piece.reading.geometry.mode != "zeros"


def _is_free(piece: Piece | None) -> TypeGuard[Apply]:
    return isinstance(piece, Apply) and piece.is_free


def _dead(graph: Graph, interior: tuple[Value, ...], target: Value, live: set[Value]) -> set[Value]:
    """The target, and the values before it that nothing else reads once the region is folded."""
    dead = {target}
    for value in reversed(interior):
        if value is not target and value not in live and all(user in dead for user in graph.users[value]):
            dead.add(value)
    return dead


def _cost(graph: Graph, reading: Reading, source: Value, target: Value) -> Cost:
    in_shape, out_shape = graph.numeric(source.shape), graph.numeric(target.shape)
    return Cost(reading.geometry.weight_count, multiply_adds(reading.geometry, in_shape, out_shape))


def _with_groups(grown: Grown, region: Region) -> Region:
    """Where channels were split and joined, the composite may be block-diagonal: count its groups by its zeros."""
    geometry = region.reading.geometry
    joined = any(isinstance(piece, Concat) or _is_free(piece) for piece in map(grown.pieces.get, region.interior))
    if region.after <= region.before or not joined or geometry.groups != 1 or geometry.weight_count > LARGEST_TRIAL:
        return region
    if grown.trains or gcd(geometry.in_channels, geometry.out_channels) == 1:  # what is zero may be trained to be not
        return region
    build = region.reading.build
    with torch.no_grad():
        groups = split_groups(build(grown.state, torch.float64)).geometry.groups
    if groups == 1:
        return region
    split = Reading(replace(geometry, groups=groups), lambda state, dtype: split_groups(build(state, dtype)))
    return replace(region, reading=split, after=_cost(grown.graph, split, region.source, region.target))


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


def _unties(grown: Grown, interior: tuple[Value, ...]) -> str | None:
    """Why the region's parameters would exist twice afterwards, or None."""
    for value, piece in ((value, grown.pieces[value]) for value in interior):
        for tensor in grown.constants.state_of(piece.constants) if isinstance(piece, Apply) else ():
            held = grown.state[tensor["path"]]
            same = [twin for twin in grown.graph.state if grown.state[twin["path"]] is held]
            readers = {reader for twin in same for reader in grown.constants.readers_of(twin)}
            ours, others = readers & set(interior), readers - set(interior)
            if not others or not isinstance(held, nn.Parameter):
                continue  # nobody else reads it, or nobody trains it
            if same != [tensor] or not grown.constants.share_nothing(ours, others, tensor, grown.state):
                called = "the module is called more than once: " if {v.scope for v in others} == {value.scope} else ""
                return f"{called}{tensor['path']} is used more than once; a fold would untie it (policy 'always' does)"
    return None


def _growth(region: Region) -> str:
    before, after = region.before, region.after
    return (
        f"one convolution would cost more: {before.parameters:,} -> {after.parameters:,} parameters, "
        f"{before.multiply_adds:,} -> {after.multiply_adds:,} multiply-adds"
    )
