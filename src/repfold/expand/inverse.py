"""The right inverse of the fold: the weights with which a structure equals a given convolution and BatchNorm.

A structure takes the convolution's kernel into one of its own, and the norm behind it into that branch. The norms at
the ends of its other branches start with scale 0, so that the structure computes the same in train mode too, where a
norm divides by the batch's own deviation; their kernels keep their paper's initial values and grow from there. What
branches without a norm add is subtracted from one of the structure's kernels, as the structure's fold requires.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from repfold.algebra import conv_axes
from repfold.blocks import Invertible
from repfold.errors import RepFoldError
from repfold.expand.folding import kernel_of
from repfold.expand.moments import Moments
from repfold.modules import replace_modules

TOLERANCE = 1e-10  # of the kernel's largest value, in float64


@torch.no_grad()
def take_over(structure: Invertible, conv: nn.Conv2d, norm: nn.Module | None, moments: Moments | None) -> None:
    """Give ``structure``, fresh and in float64 on the CPU, the weights with which it equals ``conv``, then ``norm``.

    Raises: RepFoldError when the structure cannot equal it.
    """
    if not all(bool(torch.isfinite(parameter).all()) for parameter in conv.parameters()):
        raise RepFoldError("its weight holds values that are not finite: load it again, or start with fresh=True")
    kernel_OIHW = conv.weight.double().cpu()
    bias_O = None if conv.bias is None else conv.bias.double().cpu()
    inverse = structure.inverse()
    if inverse.kernel is not None:
        inverse.kernel.copy_(kernel_OIHW)
    if inverse.bias is not None and bias_O is not None:
        inverse.bias.copy_(bias_O)
    for other in inverse.quiet:
        nn.init.zeros_(other.weight)
    structure.settle()
    at_end = _norm_at_end(conv, bias_O, norm, moments)
    absent = nn.Identity()  # until the kernel is right
    if inverse.through is not None:
        replace_modules(structure, {inverse.through: _passing(at_end)})
    if inverse.norm is not None:
        replace_modules(structure, {inverse.norm: absent})
    if inverse.absorbs is not None:
        _absorb(structure, inverse.absorbs, conv, kernel_OIHW)
    if inverse.norm is not None:
        replace_modules(structure, {absent: at_end})


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
    twin = copy.deepcopy(norm).double().cpu()
    if bias_O is not None and isinstance(mean := twin.running_mean, Tensor):
        mean -= bias_O
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


def _absorb(structure: nn.Module, parameter: Tensor, conv: nn.Conv2d, kernel_OIHW: Tensor) -> None:
    """Add Lᵀ(K − fold(structure)) to the parameter whose part in the fold is L, twice for what rounding leaves.

    The L of every structure has L·Lᵀ = 1 on that difference.
    """
    # Any size will do that reflection can pad.
    axes = conv_axes(conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    sizes = [axis.extent + axis.low + 2 * axis.stride for axis in axes]
    example = torch.zeros(1, conv.in_channels, *sizes, dtype=torch.float64)
    kernel = kernel_of(structure, example)
    for _ in range(2):
        with torch.enable_grad():
            folded_OIHW = kernel()
            rest_OIHW = kernel_OIHW - folded_OIHW.detach()
            (step,) = torch.autograd.grad(folded_OIHW, parameter, rest_OIHW)
        parameter.add_(step)
    error = float((kernel_OIHW - kernel()).abs().max())
    if not error <= TOLERANCE * max(1.0, float(kernel_OIHW.abs().max())):
        raise RepFoldError(
            f"no weights of a {type(structure).__name__} equal its kernel (the nearest differ by {error:.1e}); start "
            "from the paper's own initial values with fresh=True, or use another block"
        )
