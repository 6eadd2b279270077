"""Rewriting: the graph with every region replaced by its one layer, each proved as it is replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from repfold.algebra import AffineConv, Axis
from repfold.fold.certificate import FoldedRegion, certify
from repfold.fold.pieces import Apply, Piece
from repfold.fold.plan import Plan
from repfold.fold.regions import Region
from repfold.graph.graph import STATE, Graph, Value, substitute
from repfold.graph.sizes import plus


@dataclass(frozen=True)
class Rewritten:
    """The folded graph and its tensors, by path."""

    graph: Graph
    state: dict[str, Tensor]
    regions: tuple[FoldedRegion, ...]


def rewrite(plan: Plan, done: Callable[[int, int], None] = lambda count, of: None) -> Rewritten:
    """Every region by its layer; ``done`` gets how many are. Raises: FoldError when one does not prove exact."""
    recorded = plan.recorded
    state = dict(recorded.state)
    replacements: dict[Value, Value] = {}
    added: dict[Value, tuple[Value, ...]] = {}
    folded: list[FoldedRegion] = []
    for region, name in zip(plan.regions, name_regions(plan), strict=True):
        with torch.no_grad():
            conv = region.reading.build(recorded.state, torch.float64)
        tensors = layer_tensors(conv, region, name)
        values = layer_values(conv, region, tensors)
        trains = plan.constants.trains(_constants(plan, region), recorded.state)
        folded.append(certify(plan, region, name, conv, values, tensors))
        for path, tensor in tensors.items():
            state[path] = nn.Parameter(tensor, requires_grad=trains)
        replacements[region.target], added[region.target] = values[-1], values
        done(len(folded), len(plan.regions))
    graph = substitute(recorded.graph, replacements, added)
    used = {value["path"] for value in graph.state} | graph.updates.keys()
    return Rewritten(graph, {path: tensor for path, tensor in state.items() if path in used}, tuple(folded))


def _constants(plan: Plan, region: Region) -> list[Value]:
    pieces = [plan.pieces[value] for value in region.interior]
    return [constant for piece in pieces if isinstance(piece, Apply) for constant in piece.constants]


def layer_tensors(conv: AffineConv, region: Region, name: str) -> dict[str, Tensor]:
    """The weight and bias of the region's layer, by path, in the dtype of its target."""
    weight = _unflipped(conv) if _is_transposed(conv) else conv.weight
    tensors = {f"{name}.weight": weight.to(region.target.dtype).contiguous()}
    if conv.bias is not None:
        tensors[f"{name}.bias"] = conv.bias.to(region.target.dtype).contiguous()
    return tensors


def _is_transposed(conv: AffineConv) -> bool:
    return any(axis.upsampling > 1 for axis in conv.geometry.axes)


def layer_values(conv: AffineConv, region: Region, tensors: dict[str, Tensor]) -> tuple[Value, ...]:
    """What computes the region's target from its source: the layer, after padding where PyTorch's own cannot pad so."""
    source, target, geometry = region.source, region.target, conv.geometry
    state = [
        Value(STATE, {"path": path}, tuple(tensor.shape), tensor.dtype, path.replace(".", "_"))
        for path, tensor in tensors.items()
    ]
    scope = next(iter(tensors)).rpartition(".")[0]
    transposed = _is_transposed(conv)
    values = list(state)
    parameters = {"weight": state[0], "bias": state[1] if conv.bias is not None else None}

    def last(op: str, **arguments: Any) -> Value:
        return Value(op, arguments, target.shape, target.dtype, target.name, scope, target.grad)

    if not geometry.axes:
        shape = (*source.shape[:-1], geometry.out_channels)
        values.append(replace(last("linear", x=source, **parameters), shape=shape))
        if shape != target.shape:
            values.append(last("view", x=values[-1], size=target.shape))
        return tuple(values)
    symmetric = transposed or all(axis.low == axis.high >= 0 for axis in geometry.axes)
    x = source
    if not symmetric or (geometry.pads and geometry.mode != "zeros"):
        for pads, mode in _pads(geometry.axes, geometry.mode):
            shape = _padded(x.shape, pads)
            arguments = {"x": x, "pads": pads, "mode": mode, "value": 0.0}
            x = Value("pad", arguments, shape, source.dtype, f"{target.name}_pad", scope, target.grad)
            values.append(x)
        padding: tuple[int, ...] = (0,) * len(geometry.axes)
    elif transposed:
        padding = tuple(axis.extent - 1 - axis.low for axis in geometry.axes)
    else:
        padding = tuple(axis.low for axis in geometry.axes)
    values.append(
        last(
            "conv",
            x=x,
            **parameters,
            stride=tuple(axis.upsampling if transposed else axis.stride for axis in geometry.axes),
            padding=padding,
            dilation=tuple(axis.dilation for axis in geometry.axes),
            groups=geometry.groups,
            transposed=transposed,
            output_padding=tuple(axis.high - axis.low if transposed else 0 for axis in geometry.axes),
        )
    )
    return tuple(values)


def _pads(axes: tuple[Axis, ...], mode: str) -> list[tuple[tuple[int, ...], str]]:
    """Padding as PyTorch gives it, last axis first; its modes other than zeros refuse a crop, which is done apart."""
    pads = tuple(pad for axis in reversed(axes) for pad in (axis.low, axis.high))
    if mode == "zeros":
        return [(pads, "constant")]
    parts = [(tuple(max(p, 0) for p in pads), mode), (tuple(min(p, 0) for p in pads), "constant")]
    return [(part, kind) for part, kind in parts if any(part)]


def _padded(shape: tuple[Any, ...], pads: tuple[int, ...]) -> tuple[Any, ...]:
    grown = [low + high for low, high in zip(pads[0::2], pads[1::2], strict=True)][::-1]
    return (*shape[:2], *(plus(size, more) for size, more in zip(shape[2:], grown, strict=True)))


def _unflipped(conv: AffineConv) -> Tensor:
    """[O, I/groups, *k] as the [I, O/groups, *k], flipped, of a transposed convolution."""
    groups = conv.geometry.groups
    weight = conv.weight.flip(tuple(range(2, conv.weight.dim())))
    unflipped: Tensor = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return unflipped


def name_regions(plan: Plan) -> list[str]:
    """A region with one convolution takes its name; others that of the module that all their values lie in."""
    kept = _kept_paths(plan)
    taken = set(kept)
    names = []
    for region in plan.regions:
        kernels = [value for value in region.interior if _is_kernel(plan.pieces[value])]
        own = _layer_path(kernels[0]) if len(kernels) == 1 else None
        name = own or f"{_common_scope(region)}.conv".lstrip(".")
        base, count = name, 1
        while name in taken or any(path.startswith(f"{name}.") for path in kept):
            count += 1
            name = f"{base}{count}"
        taken.add(name)
        names.append(name)
    return names


def _kept_paths(plan: Plan) -> set[str]:
    """The tensors that the folded graph still reads, and the modules that it still calls."""
    needed, waiting = set(), [*plan.recorded.graph.results]
    sources = {region.target: region.source for region in plan.regions}
    while waiting:
        value = waiting.pop()
        if value not in needed:
            needed.add(value)
            waiting += (sources[value],) if value in sources else value.operands
    return {value["path"] for value in needed if value.op in (STATE, "train_only") and value not in sources}


def _layer_path(kernel: Value) -> str | None:
    """The module that a convolution's weight belongs to, or that computes it."""
    weight = kernel["weight"] if "weight" in kernel.arguments else kernel["other"]
    if weight.op == STATE and weight["path"].endswith(".weight"):
        return str(weight["path"]).removesuffix(".weight")
    return kernel.scope or None


def _is_kernel(piece: Piece) -> bool:
    return isinstance(piece, Apply) and piece.is_kernel


def _common_scope(region: Region) -> str:
    """The innermost module that all of the region's values were called in."""
    paths = [value.scope.split(".") if value.scope else [] for value in region.interior]
    common = paths[0]
    for path in paths[1:]:
        same = [a == b for a, b in zip(common, path, strict=False)]
        common = common[: same.index(False) if False in same else len(same)]
    return ".".join(common)
