"""The certificate: what was folded, how exactly, what it saved, and what was left and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from repfold.algebra import AffineConv
from repfold.fold.constants import Constants, float64, float64_module
from repfold.fold.errors import FoldError
from repfold.fold.pieces import CHANNELS_LAST
from repfold.fold.regions import Region
from repfold.fold.trace import Traced

# The algebra must hold to float64 rounding; what is left is the rounding of the folded weights to the network's dtype.
TOLERANCE_FLOAT64 = 1e-9
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 3e-1}


@dataclass(frozen=True)
class FoldedRegion:
    """One region that became one layer. Errors on random input, relative to the unfolded region's largest output."""

    name: str
    nodes: tuple[str, ...]
    error: float  # in the network's own dtype, against the unfolded region in float64
    error_float64: float  # of the algebra: both sides in float64
    absolute_error: float  # in the network's own dtype
    parameters: tuple[int, int]  # before, after
    multiply_adds: tuple[int, int]  # before, after, for one example
    modules: tuple[str, ...] = ()  # paths of the modules that it stands for, or whose forward calls its operators


@dataclass(frozen=True)
class LeftRegion:
    """Something linear that was left as it is, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Certificate:
    """``error``: the whole network's relative error, folded against unfolded in its own dtype, on the given example
    (and on another batch of random values); relative to the largest unfolded output."""

    error: float
    absolute_error: float
    regions: tuple[FoldedRegion, ...]
    left: tuple[LeftRegion, ...]
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def certify(
    traced: Traced, constants: Constants, region: Region, name: str, conv: AffineConv, layer: Any
) -> FoldedRegion:
    """Run the region, unfolded and folded, on random input in float64 and in the network's dtype.

    Raises: FoldError when they differ by more than rounding, or are not finite.
    """
    x = _random_input(traced, region)
    try:
        expected = _run_unfolded(traced, constants, region, x.double())
    except Exception:  # reshapes that fix the image's size run on that size alone
        x = _random_input(traced, region, full_size=True)
        expected = _run_unfolded(traced, constants, region, x.double())
    scale = float(expected.abs().max()) or 1.0
    algebra = float((conv(x.double()) - expected).abs().max())
    own = float((layer(x).double() - expected).abs().max())
    dtype = traced.values[region.target].dtype
    for error, tolerance, kind in ((algebra, TOLERANCE_FLOAT64, "float64"), (own, TOLERANCE[dtype], str(dtype))):
        if not error <= tolerance * scale:
            raise FoldError(
                f"{name}: the folded layer differs from the region that it stands for by {error:.2e} (largest output "
                f"{scale:.2e}) in {kind}, more than rounding explains. Its weights or statistics may not be finite; "
                "otherwise this is a fault of RepFold: please report it with the network."
            )
    return FoldedRegion(
        name=name,
        nodes=tuple(node.name for node in region.interior),
        error=own / scale,
        error_float64=algebra / scale,
        absolute_error=own,
        parameters=(region.before.parameters, region.after.parameters),
        multiply_adds=(region.before.multiply_adds, region.after.multiply_adds),
        modules=tuple(dict.fromkeys(_module_of(node) for node in region.interior)),
    )


def _module_of(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed([path for path, _ in stack.values()]), "")


def _random_input(traced: Traced, region: Region, full_size: bool = False) -> Tensor:
    """Random values for the region's source: two examples, small images unless the full size is asked for."""
    value = traced.values[region.source]
    shape, axes = list(value.shape), region.reading.geometry.axes
    if not full_size and region.reading.channel_axis != CHANNELS_LAST:
        shape[0] = 2
        for i, axis in enumerate(axes):
            smallest = axis.extent + 2 * axis.stride + abs(axis.low) + abs(axis.high)
            shape[2 + i] = min(shape[2 + i], max(smallest, 6))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(value.dtype).to(device_of(traced))


def device_of(traced: Traced) -> torch.device:
    return next((p.device for p in traced.root.parameters()), torch.device("cpu"))


def _run_unfolded(traced: Traced, constants: Constants, region: Region, x: Tensor) -> Tensor:
    """The region's own nodes, one by one, in float64."""
    computed: dict[fx.Node, Any] = {region.source: x}

    def value(node: fx.Node) -> Any:
        if node in computed:
            return computed[node]
        return constants.value(node) if node in constants.nodes else traced.values[node]

    for node in region.interior:
        arguments, keywords = fx.node.map_arg(node.args, value), fx.node.map_arg(node.kwargs, value)
        computed[node] = _call(traced, node)(*fx.node.map_aggregate(arguments, _fresh), **keywords)
    return computed[region.target]


def _fresh(value: Any) -> Any:
    """In-place calls of the network must not write into what other branches still read."""
    return float64(value.clone()) if isinstance(value, Tensor) else value


def _call(traced: Traced, node: fx.Node) -> Callable[..., Any]:
    if node.op == "call_module":
        return float64_module(traced.module(node))
    if node.op == "call_method":
        return lambda first, *rest, **keywords: getattr(first, str(node.target))(*rest, **keywords)
    assert callable(node.target)
    return node.target
