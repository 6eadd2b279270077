"""``fold``: a network's linear regions, each replaced by the one convolution that it equals."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from repfold.errors import nearest
from repfold.fold.certificate import TOLERANCE, Certificate, LeftRegion
from repfold.fold.errors import FoldError
from repfold.fold.parts import fold_module
from repfold.fold.trace import run_network

# A difference above the tolerance passes where the network's own rounding, against float64, is of this order.
AMPLIFIED = 10.0

POLICIES = {
    "auto": "fold where it does not cost more",
    "always": "fold wherever it is exact, also where that unties shared weights",
}


def fold(network: nn.Module, example: Any, *, policy: str = "auto") -> tuple[nn.Module, Certificate]:
    """Replace every maximal linear region of ``network`` by one convolution or linear layer.

    Args:
        network: any network in eval mode; it is left untouched.
        example: an input of the shape and dtype that it takes, [N, C, *size] for images, or a tuple of its arguments.
            Batch size and image size stay free in the result.
        policy: "auto" folds a region when neither its parameters nor its multiply-adds grow; "always" whenever it is
            exact, which gives weights that several calls share to each of them separately.

    Returns: the plain network (an ordinary module in eval mode whose parameters train) and its certificate.

    Raises: FoldError when the network is in train mode, cannot run on the example, holds non-finite weights, or when
    the folded network does not compute the same.
    """
    if policy not in POLICIES:
        raise FoldError(f"unknown policy '{policy}'. {nearest(policy, POLICIES)}")
    _refuse_unfit(network)
    arguments = example if isinstance(example, tuple) else (example,)
    with torch.no_grad():
        expected = run_network(network, arguments)
        result = fold_module(network, arguments, policy)
        inputs = [(arguments, expected), *_other_inputs(network, arguments)]
        errors = [_compare(network, result.network, given, wanted) for given, wanted in inputs]
    relative, absolute = max(error for error, _ in errors), max(error for _, error in errors)
    dtype = str(_floating_dtype(network)).removeprefix("torch.")
    left = tuple(LeftRegion(name, reason) for name, reason in result.left)
    return result.network, Certificate(relative, absolute, tuple(result.regions), left, dtype)


def _refuse_unfit(network: nn.Module) -> None:
    if network.training:
        raise FoldError(
            f"{type(network).__name__} is in train mode, where BatchNorm uses the batch's statistics and no "
            "convolution equals it. Call network.eval() first."
        )
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FoldError(
                f"{name} holds values that are not finite. Load the weights again, or train from a good one."
            )
    for name, module in network.named_modules():
        variance = getattr(module, "running_var", None)
        if isinstance(variance, Tensor) and bool((variance + getattr(module, "eps", 0.0) <= 0).any()):
            raise FoldError(
                f"{name} has a running variance of 0 (or below) and eps {getattr(module, 'eps', 0.0)}: its output is "
                "not finite. Give it an eps above 0, or train it on data whose channels vary."
            )


def _compare(network: nn.Module, plain: nn.Module, arguments: tuple[Any, ...], expected: Any) -> tuple[float, float]:
    """The largest difference of any output tensor, relative and absolute. Raises: FoldError above the tolerance."""
    worst, worst_absolute = 0.0, 0.0
    for i, (a, b) in enumerate(zip(_tensors(run_network(plain, arguments)), _tensors(expected), strict=True)):
        if a.shape != b.shape:
            raise FoldError(f"the folded network gives {tuple(a.shape)} where the network gives {tuple(b.shape)}")
        if not b.is_floating_point() or not b.numel():
            continue
        scale = float(b.double().abs().max()) or 1.0
        absolute = float((a.double() - b.double()).abs().max())
        within = absolute <= TOLERANCE.get(b.dtype, 1e-4) * scale
        if not within and not absolute <= AMPLIFIED * _own_rounding(network, arguments, b, i):
            raise FoldError(
                f"the folded network's output differs from the network's by {absolute:.2e} (largest {scale:.2e}), more "
                "than rounding explains. The network may not be a function of its input alone (randomness, or state "
                "that a call changes)."
            )
        worst, worst_absolute = max(worst, absolute / scale), max(worst_absolute, absolute)
    return worst, worst_absolute


def _own_rounding(network: nn.Module, arguments: tuple[Any, ...], output: Tensor, i: int) -> float:
    """How far the network's own output, the i-th, is from that of its float64 twin: an untrained one may amplify it."""
    doubled = fx.node.map_aggregate(
        arguments, lambda v: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v
    )
    try:
        exact = _tensors(run_network(copy.deepcopy(network).double(), doubled))[i]
    except FoldError:  # a network that is bound to its dtype
        return 0.0
    return float((output.double() - exact).abs().max())


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    fx.node.map_aggregate(_plain(value), lambda leaf: found.append(leaf) if isinstance(leaf, Tensor) else None)
    return found


def _plain(value: Any) -> Any:
    """Output containers that the walk over aggregates does not know, as dicts."""
    return dict(value) if isinstance(value, dict) else value


def _other_inputs(network: nn.Module, arguments: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Any]]:
    """Another batch size and, where the network takes it, another image size: both must stay free in the result."""
    x = arguments[0]
    if len(arguments) != 1 or not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
        return []
    generator = torch.Generator().manual_seed(0)
    shapes = [(x.shape[0] + 1, *x.shape[1:])]
    if x.dim() > 2:
        shapes.append((1, x.shape[1], *(size + 32 if size <= 64 else size // 2 + 32 for size in x.shape[2:])))
    found = []
    for shape in shapes:
        other = torch.randn(shape, generator=generator).to(x)
        try:
            found.append(((other,), run_network(network, (other,))))
        except FoldError:  # the network itself is bound to this size
            continue
    return found


def _floating_dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
