"""The right inverse of the fold: the weights with which a structure equals a given convolution and BatchNorm.

A structure takes the convolution's kernel into one of its own, and the norm behind it into that branch. The norms at
the ends of its other branches start with scale 0, so that the structure computes the same in train mode too, where a
norm divides by the batch's own deviation; their kernels keep their paper's initial values and grow from there. What
branches without a norm make is taken off again in one of the structure's kernels, as the fold of the structure says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from repfold.blocks.dirac import DiracConv2d
from repfold.blocks.expandnet import ExpandConv2d
from repfold.errors import RepFoldError
from repfold.fold import make_plan
from repfold.fold.read_modules import conv_axes

TOLERANCE = 1e-10  # of the kernel's largest value, in float64


@dataclass(frozen=True)
class Inverse:
    """How a structure equals a convolution: paths of its parameters and norms.

    kernel: takes the convolution's kernel, where it has its shape.
    bias: takes its bias, in a structure without norms.
    norm: is replaced by the norm behind the convolution.
    through: a norm before that one, which is to pass on what it is given.
    quiet: the norms at the ends of the other branches.
    settle: what else the structure needs before.
    absorbs: the parameter, linear in the fold, that takes the difference to the given kernel.
    """

    kernel: str
    bias: str | None = None
    norm: str | None = None
    through: str | None = None
    quiet: tuple[str, ...] = ()
    settle: Callable[[Any], None] | None = None
    absorbs: str | None = None


def _orthogonal_around(block: ExpandConv2d) -> None:
    """Outer 1x1s with orthonormal columns and rows, so that the kernel between them can be any; biases at the end."""
    first, *_, last = layers = [layer for layer in block.layers if isinstance(layer, nn.Conv2d)]
    for layer in (first, last):
        for weight in layer.weight.chunk(layer.groups):
            nn.init.orthogonal_(weight)
    for layer in layers[:-1]:
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _split_direction(block: DiracConv2d) -> None:
    """W = K − α·δ and β = ‖W‖; a filter that is α·δ alone keeps some direction, with β = 0."""
    rest_OIHW = block.weight - block.alpha.view(-1, 1, 1, 1) * block.delta_OIHW
    length_O = rest_OIHW.flatten(1).norm(dim=1)
    block.weight.copy_(torch.where(length_O.view(-1, 1, 1, 1) > 0, rest_OIHW, torch.ones_like(rest_OIHW)))
    block.beta.copy_(length_O)


INVERSES: dict[str, Inverse] = {
    "acb": Inverse("square.conv.weight", norm="square.norm", quiet=("column.norm", "row.norm")),
    "csla": Inverse("kxk.weight", bias="kxk.bias", absorbs="kxk.weight"),
    "dbb": Inverse("kxk.conv.weight", norm="kxk.norm", quiet=("point.norm", "point_kxk.norm", "average.norm")),
    "dirac": Inverse("weight", bias="bias", settle=_split_direction),
    "doconv": Inverse("weight", bias="bias"),
    "expandnet": Inverse("layers.1.weight", bias="layers.2.bias", settle=_orthogonal_around, absorbs="layers.1.weight"),
    "mobileone": Inverse(
        "kxk.0.conv.weight",
        norm="kxk.0.norm",
        quiet=("kxk.1.norm", "kxk.2.norm", "kxk.3.norm", "point.norm", "identity"),
    ),
    # The 1x1 takes the identity off, so that the norm in the middle sees what the norm at the end is known to see.
    "qarepvgg": Inverse("kxk.conv.weight", norm="norm", through="kxk.norm", absorbs="point.weight"),
    "repvgg": Inverse("kxk.conv.weight", norm="kxk.norm", quiet=("point.norm", "identity")),
}


@dataclass(frozen=True)
class Moments:
    """Mean and variance, one a channel, of what a convolution gives without its bias."""

    mean_C: Tensor
    var_C: Tensor


@torch.no_grad()
def take_over(
    block: nn.Module, inverse: Inverse, conv: nn.Conv2d, norm: nn.Module | None, moments: Moments | None
) -> None:
    """Give ``block``, fresh and in float64 on the CPU, the weights with which it equals ``conv``, then ``norm``.

    Raises: RepFoldError when the structure cannot equal it.
    """
    if not all(bool(torch.isfinite(parameter).all()) for parameter in conv.parameters()):
        raise RepFoldError("its weight holds values that are not finite: load it again, or start with fresh=True")
    kernel_OIHW = conv.weight.double().cpu()
    bias_O = None if conv.bias is None else conv.bias.double().cpu()
    own = block.get_parameter(inverse.kernel)
    if own.shape == kernel_OIHW.shape:
        own.copy_(kernel_OIHW)
    if inverse.bias is not None and bias_O is not None:
        block.get_parameter(inverse.bias).copy_(bias_O)
    norms = {path: module for path, module in block.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for path in inverse.quiet:
        if path in norms:  # a geometry may lack a branch
            nn.init.zeros_(norms[path].weight)
    if inverse.settle is not None:
        inverse.settle(block)
    at_end = _norm_at_end(conv, bias_O, norm, moments)
    if inverse.through is not None:
        block.set_submodule(inverse.through, _passing(at_end))
    if inverse.norm is not None:  # absent until the kernel is right
        block.set_submodule(inverse.norm, nn.Identity())
    if inverse.absorbs is not None:
        _absorb(block, inverse.absorbs, conv, kernel_OIHW)
    if inverse.norm is not None:
        block.set_submodule(inverse.norm, at_end)


def _norm_at_end(conv: nn.Conv2d, bias_O: Tensor | None, norm: nn.Module | None, moments: Moments | None) -> nn.Module:
    """The norm behind the convolution, for input without the bias; where there is none, one that only adds the bias."""
    if norm is None:
        neutral = nn.BatchNorm2d(conv.out_channels).double()
        if moments is not None:
            neutral.running_mean, neutral.running_var = moments.mean_C.clone(), moments.var_C.clone()
        passing = _passing(neutral)
        if bias_O is not None:
            passing.bias.add_(bias_O)
        return passing
    twin: Any = copy.deepcopy(norm).double().cpu()
    if bias_O is not None and twin.running_mean is not None:
        twin.running_mean -= bias_O
    return twin


def _passing(like: Any) -> nn.BatchNorm2d:
    """A norm with the statistics of another, which gives what it is given: γ = sqrt(σ² + ε), β = μ."""
    norm = nn.BatchNorm2d(like.num_features, eps=like.eps, momentum=like.momentum).double()
    if like.running_mean is not None:
        norm.running_mean, norm.running_var = like.running_mean.clone(), like.running_var.clone()
    assert norm.running_mean is not None and norm.running_var is not None
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.copy_(norm.running_mean)
    return norm


def _absorb(block: nn.Module, path: str, conv: nn.Conv2d, kernel_OIHW: Tensor) -> None:
    """Add Lᵀ(K − fold(block)) to the parameter whose part in the fold is L, for the L of all structures has L·Lᵀ = 1
    on that difference; once more for what rounding left.
    """
    # Any size will do that reflection can pad.
    axes = conv_axes(conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    sizes = [axis.extent + axis.low + 2 * axis.stride for axis in axes]
    example = torch.zeros(1, conv.in_channels, *sizes, dtype=torch.float64)
    (region,) = make_plan(block.eval(), (example,), "always").regions
    parameter = block.get_parameter(path)
    for _ in range(2):
        with torch.enable_grad():
            folded_OIHW = region.reading.build().weight
            rest_OIHW = kernel_OIHW - folded_OIHW.detach()
            (step,) = torch.autograd.grad(folded_OIHW, parameter, rest_OIHW)
        parameter.add_(step)
    error = float((kernel_OIHW - region.reading.build().weight).abs().max())
    if not error <= TOLERANCE * max(1.0, float(kernel_OIHW.abs().max())):
        raise RepFoldError(
            f"no weights of a {type(block).__name__} equal its kernel (the nearest differ by {error:.1e}); start from "
            "the paper's own initial values with fresh=True, or use another block"
        )
