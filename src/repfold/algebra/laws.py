"""The laws: how affine convolutions combine into one. Each is exact, or raises Inexact through its geometry law."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from repfold.algebra.affine import CONVOLUTIONS, AffineConv
from repfold.algebra.geometry import Axis, Geometry, Inexact, sequence_geometry, sum_geometry


def add(a: AffineConv, b: AffineConv) -> AffineConv:
    """A x + B x = (embed A + embed B) x. Precondition: same stride and output size on every input."""
    geometry = sum_geometry(a.geometry, b.geometry)
    weight = embed(a, geometry) + embed(b, geometry)
    return AffineConv(weight, _add_optional(a.bias, b.bias), geometry)


def scale(factor_O: Tensor | float, conv: AffineConv) -> AffineConv:
    """diag(f)·(W x + b) = (diag(f) W) x + f·b. ``factor_O``: a number, or [O]."""
    factor = torch.as_tensor(factor_O, dtype=conv.weight.dtype, device=conv.weight.device)
    rows = factor.reshape(-1, *(1,) * (conv.weight.dim() - 1)) if factor.dim() else factor
    return replace(conv, weight=rows * conv.weight, bias=None if conv.bias is None else factor * conv.bias)


def sequence(inner: AffineConv, outer: AffineConv) -> AffineConv:
    """W₂(W₁ x + b₁) + b₂ = (W₂∘W₁) x + (Σ_taps W₂) b₁ + b₂, with (W₂∘W₁)[o,i,t] = Σ_m Σ_{j+k=t} W₂[o,m,j] W₁[m,i,k].

    Precondition: the outer padding commutes with the inner convolution (``sequence_geometry``).
    """
    geometry = sequence_geometry(inner.geometry, outer.geometry, inner_bias_is_zero=inner.bias_is_zero())
    bias = outer.bias
    if inner.bias is not None:
        carried = _grouped_matvec(outer.weight.flatten(2).sum(2) if outer.geometry.axes else outer.weight, inner.bias)
        bias = _add_optional(bias, carried)
    return AffineConv(_compose_weights(inner, outer, geometry), bias, geometry)


def concatenate(parts: list[AffineConv]) -> AffineConv:
    """[A x; B x; …] along the channels: the kernels, embedded in one geometry, stacked along O.

    Precondition: the parts read one input with the same stride and output size.
    """
    geometries = [replace(part.geometry, out_channels=1, groups=1) for part in parts]
    common = reduce(sum_geometry, geometries)
    outs = [part.geometry.out_channels for part in parts]
    weights = [embed(part, replace(common, out_channels=o)) for part, o in zip(parts, outs, strict=True)]
    biases = [part.weight.new_zeros(o) if part.bias is None else part.bias for part, o in zip(parts, outs, strict=True)]
    biased = any(part.bias is not None for part in parts)
    return AffineConv(
        torch.cat(weights), torch.cat(biases) if biased else None, replace(common, out_channels=sum(outs))
    )


def concatenate_geometry(parts: list[Geometry]) -> Geometry:
    """The geometry of ``concatenate``."""
    common = reduce(sum_geometry, (replace(part, out_channels=1, groups=1) for part in parts))
    return replace(common, out_channels=sum(part.out_channels for part in parts))


def embed(conv: AffineConv, geometry: Geometry) -> Tensor:
    """The weight of ``conv`` written on a larger ``geometry``: taps at their positions, else zeros, fewer groups."""
    weight = regroup(conv, geometry.groups).weight
    if conv.geometry.axes == geometry.axes:
        return weight
    target = weight.new_zeros(*weight.shape[:2], *geometry.kernel_size)
    positions = tuple(_taps(small, large) for small, large in zip(conv.geometry.axes, geometry.axes, strict=True))
    target[(slice(None), slice(None), *positions)] = weight
    return target


def regroup(conv: AffineConv, groups: int) -> AffineConv:
    """The same map with fewer groups: each block of the block-diagonal kernel is surrounded by zeros.

    Precondition: ``groups`` divides the groups that ``conv`` has.
    """
    geometry = conv.geometry
    if groups == geometry.groups:
        return conv
    if geometry.groups % groups:
        raise Inexact(f"{geometry.groups} groups cannot be written as {groups}")
    merged = geometry.groups // groups
    out_channels, in_per_group, *kernel = conv.weight.shape
    blocks = conv.weight.reshape(groups, merged, out_channels // geometry.groups, 1, in_per_group, *kernel)
    eye = torch.eye(merged, dtype=conv.weight.dtype, device=conv.weight.device)
    weight = blocks * eye.reshape(1, merged, 1, merged, 1, *(1,) * len(kernel))
    weight = weight.reshape(out_channels, merged * in_per_group, *kernel)
    return replace(conv, weight=weight, geometry=geometry.regrouped(groups))


def split_groups(conv: AffineConv) -> AffineConv:
    """The same map with as many groups as its zeros allow: the inverse of ``regroup``."""
    geometry = conv.geometry
    if geometry.groups != 1 or geometry.in_channels == 1 or geometry.out_channels == 1:
        return conv
    used_OI = conv.weight.detach().flatten(2).ne(0).any(2) if geometry.axes else conv.weight.detach().ne(0)
    limit = math.gcd(geometry.in_channels, geometry.out_channels)
    for groups in (g for g in range(limit, 1, -1) if limit % g == 0):
        blocks = used_OI.reshape(groups, geometry.out_channels // groups, groups, -1).any(3).any(1)
        if not (blocks & ~torch.eye(groups, dtype=torch.bool, device=blocks.device)).any():
            weight = conv.weight.unflatten(0, (groups, -1)).unflatten(2, (groups, -1))
            diagonal = torch.stack([weight[g, :, g] for g in range(groups)]).flatten(0, 1)
            return replace(conv, weight=diagonal, geometry=geometry.regrouped(groups))
    return conv


def _compose_weights(inner: AffineConv, outer: AffineConv, geometry: Geometry) -> Tensor:
    if outer.geometry.is_channelwise and outer.geometry.is_pointwise:
        return outer.weight * inner.weight
    if inner.geometry.is_channelwise and inner.geometry.is_pointwise:
        per_group = inner.weight.reshape(outer.geometry.groups, 1, -1, *(1,) * len(geometry.axes))
        weight: Tensor = (outer.weight.unflatten(0, (outer.geometry.groups, -1)) * per_group).flatten(0, 1)
        return weight
    if outer.geometry.is_channelwise and _is_one_tap(inner.weight):
        return outer.weight * inner.weight
    inner, outer = regroup(inner, geometry.groups), regroup(outer, geometry.groups)
    pairs = list(zip(inner.geometry.axes, outer.geometry.axes, geometry.axes, strict=True))
    first = _dilate(inner.weight, [(o.upsampling * i.spacing) // c.dilation for i, o, c in pairs])
    second = _dilate(outer.weight, [(i.stride * o.spacing) // c.dilation for i, o, c in pairs])
    if _is_one_tap(first) or _is_one_tap(second):
        return _grouped_matmul(second, first, geometry)
    # The kernels of the inner convolution, seen as images: one image per input channel, one channel per middle channel.
    return CONVOLUTIONS[len(pairs)](
        first.transpose(0, 1),
        second.flip(tuple(range(2, second.dim()))),
        padding=[size - 1 for size in second.shape[2:]],
        groups=geometry.groups,
    ).transpose(0, 1)


def _is_one_tap(weight: Tensor) -> bool:
    return all(size == 1 for size in weight.shape[2:])


def _grouped_matmul(outer: Tensor, inner: Tensor, geometry: Geometry) -> Tensor:
    """Σ_m W₂[o,m,j] W₁[m,i,k] in every group, for two kernels of which one has a single tap."""
    groups, middle = geometry.groups, outer.shape[1]
    if _is_one_tap(outer):
        blocks_gOM = outer.reshape(groups, -1, middle)
        blocks_gMIk = inner.reshape(groups, middle, -1)
        return torch.bmm(blocks_gOM, blocks_gMIk).reshape(geometry.weight_shape)
    taps = math.prod(outer.shape[2:])
    blocks_gOjM = outer.reshape(-1, middle, taps).transpose(1, 2).reshape(groups, -1, middle)
    blocks_gMI = inner.reshape(groups, middle, -1)
    weight_OjI = torch.bmm(blocks_gOjM, blocks_gMI).reshape(geometry.out_channels, taps, -1)
    return weight_OjI.transpose(1, 2).reshape(geometry.weight_shape)


def _grouped_matvec(weight_OM: Tensor, vector: Tensor) -> Tensor:
    groups = vector.numel() // weight_OM.shape[1]
    return torch.einsum("gom,gm->go", weight_OM.unflatten(0, (groups, -1)), vector.reshape(groups, -1)).flatten()


def _dilate(weight: Tensor, steps: list[int]) -> Tensor:
    if all(step <= 1 for step in steps):
        return weight
    size = [(n - 1) * step + 1 for n, step in zip(weight.shape[2:], steps, strict=True)]
    target = weight.new_zeros(*weight.shape[:2], *size)
    target[(slice(None), slice(None), *(slice(None, None, max(step, 1)) for step in steps))] = weight
    return target


def _taps(small: Axis, large: Axis) -> slice:
    start = (large.low - small.low) // large.dilation
    step = max(small.spacing // large.dilation, 1)
    return slice(start, start + step * (small.kernel - 1) + 1, step)


def _add_optional(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
