"""Borders that are filled in after a padding: slices of a zero border, each assigned the same number per channel.

DiverseBranchBlock (arXiv:2103.13425) pads what a norm gives with what the norm makes of zero, so that the convolution
behind it needs no padding: y = pad(x − v) + v, which the algebra reads.
"""

from __future__ import annotations

from dataclasses import replace

from repfold.fold.constants import Constants
from repfold.graph.graph import Graph, Value, substitute
from repfold.graph.sizes import minus

SCATTER = "aten.slice_scatter.default"
LAST = 2**31  # an end from here on means the axis' own


def with_filled_borders(graph: Graph) -> Graph:
    """The graph with every such border written as pad(x − v) + v."""
    constants = Constants(graph)
    replacements: dict[Value, Value] = {}
    added: dict[Value, tuple[Value, ...]] = {}
    for value in graph.values:
        found = _filled(graph, constants, value) if value.op == SCATTER else None
        if found is None:
            continue
        padded, number = found
        x = padded["x"]
        down = replace(x, op="sub", arguments={"x": x, "other": number}, name=f"{value.name}_down")
        pad = replace(padded, arguments={**padded.arguments, "x": down}, name=f"{value.name}_pad")
        up = replace(value, op="add", arguments={"x": pad, "other": number})
        replacements[value], added[value] = up, (down, pad, up)
    return substitute(graph, replacements, added) if replacements else graph


def _filled(graph: Graph, constants: Constants, value: Value) -> tuple[Value, Value] | None:
    """The padding whose border ``value`` completes, and the number per channel that fills it."""
    if any(user.op == SCATTER and user["self"] is value for user in graph.users[value]):
        return None  # more of the border follows
    filled: dict[tuple[int, str], int] = {}
    numbers: list[Value] = []
    while value.op == SCATTER:
        number, side = _per_channel(constants, value["src"]), _side(value)
        if number is None or side is None:
            return None
        numbers.append(number)
        filled[side[:2]] = side[2]
        value = value["self"]
    if value.op != "pad" or value["mode"] != "constant" or value["value"] != 0 or len(value.shape) != 4:
        return None
    pads = (*value["pads"], 0, 0)[:4]
    sides = ((3, "low"), (3, "high"), (2, "low"), (2, "high"))  # PyTorch gives the last axis first
    if any(filled.get(side, 0) != pad for side, pad in zip(sides, pads, strict=True)):
        return None
    return (value, numbers[0]) if len({_root(number) for number in numbers}) == 1 else None


def _per_channel(constants: Constants, src: Value) -> Value | None:
    """The constant, one number per channel, that ``src`` repeats, or None."""
    while src.op == "expand" and src not in constants:
        src = src["x"]
    return src if src in constants and src.shape[-3:][1:] == (1, 1) and src.shape[:-3] in ((), (1,)) else None


def _root(number: Value) -> Value:
    return _root(number["x"]) if number.op == "view" else number


def _side(scatter: Value) -> tuple[int, str, int] | None:
    """The axis, which end of it, and how many samples of it are written."""
    dim, start, end = scatter["dim"], scatter["start"] or 0, scatter["end"]
    size = scatter.shape[dim]
    if scatter["step"] != 1 or dim not in (2, 3):
        return None
    to_the_end = end is None or end == size or (isinstance(end, int) and end >= LAST)
    if start == 0 and isinstance(end, int) and 0 < end < LAST:
        return dim, "low", end
    width = -start if isinstance(start, int) and start < 0 else minus(size, start)
    return (dim, "high", width) if to_the_end and width is not None and width > 0 else None
