"""The certificate: what was folded, how exactly, what it saved, and what was left and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from repfold.algebra import AffineConv
from repfold.counted import counted
from repfold.fold.errors import FoldError
from repfold.graph.graph import STATE, Value
from repfold.graph.interpret import compute
from repfold.graph.sizes import Expression

if TYPE_CHECKING:
    from repfold.fold.plan import Plan
    from repfold.fold.regions import Region

# The algebra must hold to float64 rounding; what is left is the rounding of the folded weights to the network's dtype.
TOLERANCE_FLOAT64 = 1e-9
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 3e-1}

SHOWN = 6  # lines of each kind in a printed certificate


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
    """Something linear that was not folded, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Certificate:
    """What was proved of a fold.

    Args:
        error: the whole network's largest error, folded against unfolded in its own dtype, over all that was compared;
            relative to the largest unfolded output.
        absolute_error: the same, absolute.
        dtype: the network's.
        sizes: the shapes of the inputs on which both were compared, one tuple of shapes per comparison.
        caveats: the limits of the comparison, and its conditions.
    """

    error: float
    absolute_error: float
    regions: tuple[FoldedRegion, ...]
    left: tuple[LeftRegion, ...]
    dtype: str
    sizes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    caveats: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A summary: the error, the sizes, the caveats, and what was left, by reason."""
        sizes = ", ".join(" and ".join("x".join(map(str, shape)) for shape in shapes) for shapes in self.sizes)
        lines = [
            f"{counted(len(self.regions), 'region')} folded; {self.dtype}, relative error {self.error:.1e} on {sizes}"
        ]
        lines += _shown([f"caveat: {caveat}" for caveat in self.caveats])
        reasons: dict[str, list[str]] = {}
        for item in self.left:
            reasons.setdefault(item.reason.split(":")[0], []).append(item.name)
        by_count = sorted(reasons.items(), key=lambda pair: -len(pair[1]))
        lines += _shown(
            [f"left {len(names):3d}: {reason} ({names[0]}{', ...' * (len(names) > 1)})" for reason, names in by_count]
        )
        return "\n".join(lines)


def _shown(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"... and {more} more"]


def certify(
    plan: Plan, region: Region, name: str, conv: AffineConv, values: tuple[Value, ...], tensors: dict[str, Tensor]
) -> FoldedRegion:
    """Run the region, unfolded and folded, on random input in float64 and in the network's dtype.

    Raises: FoldError when they differ by more than rounding, or are not finite.
    """
    x = _random_input(plan, region)
    sizes = plan.recorded.graph.sizes
    with torch.no_grad():
        expected = _run_unfolded(plan, region, x.double())
        scale = float(expected.abs().max()) or 1.0
        exact = conv(x.double())
        algebra = float((exact.reshape(expected.shape) - expected).abs().max())
        (found,) = compute((values[-1],), {region.source: x}, tensors, sizes)
        own = float((found.double() - expected).abs().max())
    dtype = region.target.dtype
    for error, tolerance, kind in ((algebra, TOLERANCE_FLOAT64, "float64"), (own, TOLERANCE[dtype], str(dtype))):
        if not error <= tolerance * scale:
            raise FoldError(
                f"{name}: the folded layer differs from the region that it stands for by {error:.2e} (largest output "
                f"{scale:.2e}) in {kind}, more than rounding explains. Its weights or statistics may not be finite; "
                "otherwise this is a fault of RepFold: please report it with the network."
            )
    return FoldedRegion(
        name=name,
        nodes=tuple(value.name for value in region.interior),
        error=own / scale,
        error_float64=algebra / scale,
        absolute_error=own,
        parameters=(region.before.parameters, region.after.parameters),
        multiply_adds=(region.before.multiply_adds, region.after.multiply_adds),
        modules=tuple(dict.fromkeys(value.scope for value in region.interior)),
    )


def _random_input(plan: Plan, region: Region) -> Tensor:
    """Random values for the region's source: a small image, or where sizes are fixed in it, the example's."""
    source, axes = region.source, region.reading.geometry.axes
    shape = list(plan.recorded.graph.numeric(source.shape))
    if axes and not any(_is_sized(value) for value in region.interior):
        shape[0] = 1
        for i, axis in enumerate(axes):
            smallest = axis.extent + 2 * axis.stride + abs(axis.low) + abs(axis.high)
            shape[2 + i] = min(shape[2 + i], max(smallest, 6))
    generator = torch.Generator().manual_seed(0)
    device = next((tensor.device for tensor in plan.recorded.state.values()), torch.device("cpu"))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(source.dtype).to(device)


def _is_sized(value: Value) -> bool:
    """Whether an argument is a size, of this example or of any: where sizes are fixed, that is a number."""
    return value.op in ("view", "expand", "slice") or any(
        isinstance(argument, Expression) for argument in value.arguments.values()
    )


def _run_unfolded(plan: Plan, region: Region, x: Tensor) -> Tensor:
    """The region's own operators, one by one, in float64."""
    known: dict[Value, Any] = {region.source: x}
    for value in region.interior:
        for operand in value.operands:
            if operand in plan.constants:
                known[operand] = _float64(plan, operand)
    found: Tensor = compute((region.target,), known, plan.recorded.state, plan.recorded.graph.sizes)[0]
    return found


def _float64(plan: Plan, constant: Value) -> Any:
    if constant.op == STATE or constant.dtype.is_floating_point:
        tensor = plan.recorded.state[constant["path"]] if constant.op == STATE else None
        if tensor is not None and not tensor.is_floating_point():
            return tensor
        return plan.constants.number(constant, plan.recorded.state, torch.float64)
    return compute((constant,), {}, plan.recorded.state, {})[0]
