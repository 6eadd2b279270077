"""Whether two networks compute the same: every leaf of what they return, on the example and on other sizes.

A difference beyond rounding is judged again in float64, where rounding explains almost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from repfold.fold.certificate import TOLERANCE, TOLERANCE_FLOAT64
from repfold.fold.errors import FoldError
from repfold.graph.copying import copies, private_copy
from repfold.graph.structure import UnknownContainer, containers, rebuild, take_apart

Arguments = tuple[Any, ...]
Refold = Callable[[nn.Module], nn.Module]
EPSILON = 2.0**-52
AMPLIFIED = 100.0  # times the effect of rounding the input alone: every layer rounds
SHRINKS = 1e-6  # what is left in float64 of a difference in float32 that is rounding (its own unit is 2e-9 of that)
NUDGE = 1e-13  # relative change of an input that estimates a network's condition number


@dataclass(frozen=True)
class Difference:
    """The largest difference of floating leaves; ``relative`` to the largest expected value. ``remark``: a caveat."""

    relative: float = 0.0
    absolute: float = 0.0
    remark: str | None = None


def run(network: nn.Module, arguments: Arguments) -> Any:
    """The network's output. Raises: FoldError when it cannot run on the arguments."""
    with torch.no_grad():
        try:
            return network(*copies(arguments))
        except Exception as error:  # a user's forward may raise anything
            shapes = ", ".join(f"{tuple(a.shape)} {a.dtype}" if isinstance(a, Tensor) else repr(a) for a in arguments)
            raise FoldError(
                f"{type(network).__name__} cannot run on the example ({shapes}): {type(error).__name__}: {error}. "
                "Give an example of the shape, dtype and device that the network takes."
            ) from error


def leaves(output: object) -> list[Any]:
    """The leaves of an output. Raises: FoldError where one cannot be compared."""
    try:
        return take_apart(output)
    except UnknownContainer as unknown:
        raise FoldError(
            f"The network returns {unknown}, so nothing about it can be compared. Return tensors, or containers of "
            "them."
        ) from unknown


def refuse_if_it_differs_from_itself(network: nn.Module, arguments: Arguments) -> Any:
    """The output on the arguments, of two runs that must be equal. ``network`` is a copy that may be changed."""
    first, second = run(network, arguments), run(network, arguments)
    a, b = leaves(first), leaves(second)
    if containers(first) != containers(second) or not all(_equal(p, q) for p, q in zip(a, b, strict=True)):
        raise FoldError(
            f"{type(network).__name__} differs from itself: two calls with the same input give different outputs, so "
            "it is not a function of its input alone (random numbers, dropout that is active, or state that a call "
            "changes), and a fold could not be proved. Make it deterministic in eval mode."
        )
    return second


def compare(
    network: nn.Module, plain: nn.Module, arguments: Arguments, expected: object, refold: Refold | None = None
) -> Difference:
    """How far ``plain`` is from what ``network`` gave. Raises: FoldError when by more than rounding.

    ``refold`` folds the network's float64 twin, whose weights are not rounded to its own dtype, on the same example.
    """
    actual = run(plain, arguments)
    found, wanted = leaves(actual), leaves(expected)
    if containers(actual) != containers(expected):
        raise FoldError(
            f"the folded network returns {containers(actual)} where the network returns {containers(expected)}"
        )
    worst, beyond = Difference(), False
    for a, b in zip(found, wanted, strict=True):
        if isinstance(b, Tensor):
            _refuse_other_kind(a, b)
        if isinstance(b, Tensor) and (b.is_floating_point() or b.is_complex()):
            relative, absolute = distance(a, b)
            beyond |= not relative <= TOLERANCE.get(_real(b.dtype), 1e-4)
            worst = Difference(max(worst.relative, relative), max(worst.absolute, absolute))
        elif not _equal(a, b):
            beyond = True
    if beyond:
        return _judge_in_float64(network, refold, arguments, worst)
    if not any(isinstance(leaf, Tensor) and leaf.numel() for leaf in wanted):
        return Difference(remark="what the network returns holds no number, so there was nothing to compare")
    return worst


def shows_any_difference(output: object) -> bool:
    """Whether another computation would hardly give this output: labels, masks and zeros are equal by chance."""
    return all(_has_fractions(leaf) for leaf in leaves(output) if isinstance(leaf, Tensor))


def _has_fractions(leaf: Tensor) -> bool:
    values = torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf
    if not values.is_floating_point():
        return False
    finite = values[torch.isfinite(values)]
    return not torch.equal(finite, finite.round())


def _refuse_other_kind(a: object, b: Tensor) -> None:
    if not isinstance(a, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        given = f"{tuple(a.shape)} {a.dtype}" if isinstance(a, Tensor) else repr(a)
        raise FoldError(f"the folded network gives {given} where the network gives {tuple(b.shape)} {b.dtype}")


def _real(dtype: torch.dtype) -> torch.dtype:
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(_comparable(a), _comparable(b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _comparable(x: Tensor) -> Tensor:
    """The tensor with NaNs replaced by a number, which equals itself."""
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return torch.nan_to_num(x, nan=7.0) if x.is_floating_point() else x


def distance(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return max|a − b|/max|b| and max|a − b| of two tensors of one shape, in float64.

    Both are infinite unless infinities and NaNs stand at the same positions.
    """
    a, b = (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x for x in (a, b))
    a, b = a.double(), b.double()
    if not b.numel():
        return 0.0, 0.0
    finite = torch.isfinite(b)
    if not torch.equal(_signs(a), _signs(b)):
        return float("inf"), float("inf")
    scale = float(b[finite].abs().max()) if bool(finite.any()) else 0.0
    absolute = float((a - b)[finite].abs().max()) if bool(finite.any()) else 0.0
    return absolute / (scale or 1.0), absolute


def _signs(x: Tensor) -> Tensor:
    """0 for a finite number, 1 and -1 for the infinities, 2 for NaN."""
    return torch.where(torch.isnan(x), 2.0, torch.where(torch.isinf(x), x.sign(), 0.0))


def _judge_in_float64(network: nn.Module, refold: Refold | None, arguments: Arguments, own: Difference) -> Difference:
    """Both in float64. Raises: FoldError when they differ there too, or cannot be judged there."""
    doubled = in_float64(arguments)
    try:
        if refold is None:
            raise FoldError("there is no float64 form of the fold")
        exact = private_copy(network).double()
        expected, actual = run(exact, doubled), run(refold(exact), doubled)
    except Exception as error:  # a network that is bound to its dtype
        raise FoldError(
            f"the folded network's output differs from the network's by {own.absolute:.2e} ({own.relative:.2e} of the "
            f"largest), more than rounding explains, and it cannot be judged in float64 ({error})"
        ) from error
    pairs = list(zip(leaves(actual), leaves(expected), strict=True))
    furthest = max((distance(a, b)[0] for a, b in pairs if isinstance(b, Tensor) and _is_float(b)), default=0.0)
    same = all(_equal(a, b) for a, b in pairs if not (isinstance(b, Tensor) and _is_float(b)))
    if same and furthest <= TOLERANCE_FLOAT64:
        remark = (
            f"in its own dtype it differs by {own.relative:.1e} of the largest output, which is the network's own "
            f"rounding: in float64 by {furthest:.1e}"
        )
        return Difference(own.relative, own.absolute, remark)
    condition = _condition(exact, doubled, expected)
    shrinks = own.relative > furthest and furthest <= SHRINKS * own.relative
    if same and condition > 1e5 and (shrinks or furthest <= min(1e-7, AMPLIFIED * EPSILON * condition)):
        remark = (
            f"it is ill-conditioned: its condition number is about {condition:.0e}, so in its own dtype it differs "
            f"by {own.relative:.1e} of the largest output, and in float64 by {furthest:.1e}, as rounding does"
        )
        return Difference(own.relative, own.absolute, remark)
    if 10 * AMPLIFIED * EPSILON * condition >= furthest and condition > 1e5:
        raise FoldError(
            f"{type(network).__name__} is too ill-conditioned to be judged as a whole: its condition number is about "
            f"{condition:.0e} (a change of its input by 1 comes out as that many), so float32 rounding alone changes "
            f"its outputs by {own.relative:.1e} and even float64 decides nothing ({furthest:.1e}). Load trained "
            "weights, or set its norms' statistics from data."
        )
    raise FoldError(
        f"the folded network's output differs from the network's by {own.absolute:.2e} ({own.relative:.2e} of the "
        f"largest; {furthest:.2e} in float64), more than rounding explains. The network may not be a function of its "
        "input alone; otherwise this is a fault of RepFold: please report it with the network."
    )


def _is_float(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def in_float64(arguments: Arguments) -> Arguments:
    """The arguments with every real floating-point tensor in float64."""

    def double(leaf: object) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    doubled: Arguments = rebuild(arguments, double)
    return doubled


def _condition(network: nn.Module, arguments: Arguments, expected: object) -> float:
    """The relative change of the output over that of the input, estimated with random noise."""
    generator = torch.Generator().manual_seed(0)

    def nudge(leaf: object) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        noise = torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.device)
        return leaf * (1 + NUDGE * noise)

    moved = leaves(run(network, rebuild(arguments, nudge)))
    pairs = zip(moved, leaves(expected), strict=True)
    return max((distance(a, b)[0] for a, b in pairs if isinstance(b, Tensor) and _is_float(b)), default=0.0) / NUDGE


def resized(arguments: Arguments, batch: Callable[[int], int], image: Callable[[int], int]) -> Arguments:
    """Random arguments of another batch and image size; tensors that are no images keep all but their batch."""
    generator = torch.Generator().manual_seed(0)
    batches = {leaf.shape[0] for leaf in take_apart(arguments) if isinstance(leaf, Tensor) and leaf.dim()}

    def change(leaf: object) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            return leaf
        shape = list(leaf.shape)
        if len(batches) == 1 and leaf.dim() > 1:
            shape[0] = batch(shape[0])
        if leaf.dim() > 2:
            shape[2:] = [image(size) for size in shape[2:]]
        if leaf.is_floating_point():
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(leaf)
        repeats = [-(-new // old) if old else 1 for new, old in zip(shape, leaf.shape, strict=True)]
        return leaf.repeat(repeats)[tuple(slice(size) for size in shape)].clone()

    changed: Arguments = rebuild(arguments, change)
    return changed


def shapes(arguments: Arguments) -> tuple[tuple[int, ...], ...]:
    """The shapes of all tensors in ``arguments``, in the order of their leaves."""
    return tuple(tuple(leaf.shape) for leaf in take_apart(arguments) if isinstance(leaf, Tensor))
