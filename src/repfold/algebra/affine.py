"""The affine convolution: the one normal form that every linear branch of a convolutional network has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from repfold.algebra.geometry import Axis, Geometry, identity_geometry

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class AffineConv:
    """y = weight * x + bias on a geometry.

    Shapes: weight [O, I/groups, *kernel] as in torch.nn.Conv (also for a transposed convolution, whose kernel is stored
    flipped and with O first), bias [O] or None for zero.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry

    def __post_init__(self) -> None:
        assert tuple(self.weight.shape) == self.geometry.weight_shape, (self.weight.shape, self.geometry)
        assert self.bias is None or tuple(self.bias.shape) == (self.geometry.out_channels,)

    def to(self, dtype: torch.dtype) -> AffineConv:
        """The same map with weight and bias cast to ``dtype``."""
        return replace(self, weight=self.weight.to(dtype), bias=None if self.bias is None else self.bias.to(dtype))

    def bias_is_zero(self, tolerance: float = 1e-13) -> bool:
        """Whether the bias vanishes, up to float64 rounding relative to the weights that it was computed with."""
        if self.bias is None:
            return True
        scale = max(1.0, float(self.weight.detach().abs().max())) if self.weight.numel() else 1.0
        return bool(self.bias.detach().abs().max() <= tolerance * scale)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to x of shape [N, I, *size] (or [..., I] without spatial axes): the plain reference."""
        geometry = self.geometry
        if not geometry.axes:
            return _grouped_linear(self, x)
        x = _insert_zeros(x, geometry.axes)
        pads = [pad for axis in reversed(geometry.axes) for pad in (axis.low, axis.high)]
        x = _extend(x, pads, geometry.mode) if any(pads) else x
        return CONVOLUTIONS[len(geometry.axes)](
            x,
            self.weight,
            self.bias,
            stride=[axis.stride for axis in geometry.axes],
            dilation=[axis.dilation for axis in geometry.axes],
            groups=geometry.groups,
        )


def identity(channels: int, dimensions: int, dtype: torch.dtype = torch.float64) -> AffineConv:
    """x ↦ x as a convolution with one tap: E[o, 0, centre] = 1, a group per channel."""
    return AffineConv(
        torch.ones(channels, 1, *(1,) * dimensions, dtype=dtype), None, identity_geometry(channels, dimensions)
    )


def scaling(scale_C: Tensor, shift_C: Tensor | None, dimensions: int) -> AffineConv:
    """x ↦ scale·x + shift per channel: what normalisation with running statistics is.

    With t = γ/√(σ²+ε): scale = t, shift = β − μ·t (RepVGG, arXiv:2101.03697, eq. 3).
    """
    channels = scale_C.numel()
    weight = scale_C.reshape(channels, 1, *(1,) * dimensions)
    return AffineConv(weight, shift_C, identity_geometry(channels, dimensions))


def selection(index: Tensor, in_channels: int, dimensions: int, dtype: torch.dtype = torch.float64) -> AffineConv:
    """x ↦ x[:, index]: channels picked, permuted or repeated, as a one-hot 1x1 kernel. ``index`` int64 [O]."""
    one_hot = torch.nn.functional.one_hot(index, in_channels).to(dtype)
    geometry = Geometry(in_channels, index.numel(), (Axis(),) * dimensions)
    return AffineConv(one_hot.reshape(geometry.weight_shape), None, geometry)


def average_pool(channels: int, axes: tuple[Axis, ...], divisor: int | None = None) -> AffineConv:
    """Average pooling as a depthwise convolution with the constant kernel 1/k² (DBB, arXiv:2103.13425, transform V).

    Holds where padded zeros are counted; excluding them from the divisor is no convolution.
    """
    geometry = Geometry(channels, channels, axes, groups=channels)
    value = 1.0 / (divisor or math.prod(geometry.kernel_size))
    return AffineConv(torch.full(geometry.weight_shape, value, dtype=torch.float64), None, geometry)


def transposed(
    weight_IOK: Tensor, bias_O: Tensor | None, groups: int, axes: tuple[Axis, ...], output_padding: tuple[int, ...]
) -> AffineConv:
    """A transposed convolution as a convolution over the input with zeros inserted.

    ``weight_IOK`` [I, O/groups, *k] as in torch.nn.ConvTranspose; ``axes`` carry stride, padding (low) and dilation.
    """
    in_channels, out_per_group, *kernel = weight_IOK.shape
    weight = weight_IOK.reshape(groups, in_channels // groups, out_per_group, *kernel).transpose(1, 2)
    weight = weight.reshape(groups * out_per_group, in_channels // groups, *kernel)
    weight = weight.flip(tuple(range(2, weight.dim()))) if kernel else weight
    converted = tuple(
        Axis(a.kernel, 1, a.extent - 1 - a.low, a.extent - 1 - a.low + extra, a.dilation, upsampling=a.stride)
        for a, extra in zip(axes, output_padding, strict=True)
    )
    return AffineConv(weight, bias_O, Geometry(in_channels, groups * out_per_group, converted, groups))


def pixel_shuffle(channels: int, factor: int) -> AffineConv:
    """[C·r², H, W] → [C, r·H, r·W]: a transposed convolution of stride and kernel r, one-hot, in C groups."""
    tap = torch.eye(factor * factor, dtype=torch.float64).reshape(factor * factor, 1, factor, factor)
    axis = Axis(factor, factor)
    return transposed(tap.repeat(channels, 1, 1, 1), None, channels, (axis, axis), (0, 0))


def pixel_unshuffle(channels: int, factor: int) -> AffineConv:
    """[C, r·H, r·W] → [C·r², H, W]: a convolution of stride r and kernel r with one-hot weights, C groups."""
    tap = torch.eye(factor * factor, dtype=torch.float64).reshape(factor * factor, 1, factor, factor)
    axis = Axis(factor, factor)
    geometry = Geometry(channels, channels * factor * factor, (axis, axis), groups=channels)
    return AffineConv(tap.repeat(channels, 1, 1, 1), None, geometry)


def _grouped_linear(conv: AffineConv, x: Tensor) -> Tensor:
    groups, (out_channels, in_per_group) = conv.geometry.groups, conv.weight.shape
    weight = conv.weight.reshape(groups, out_channels // groups, in_per_group)
    y = torch.einsum("...gi,goi->...go", x.reshape(*x.shape[:-1], groups, in_per_group), weight)
    y = y.reshape(*x.shape[:-1], out_channels)
    return y if conv.bias is None else y + conv.bias


def _insert_zeros(x: Tensor, axes: tuple[Axis, ...]) -> Tensor:
    factors = [axis.upsampling for axis in axes]
    if all(factor == 1 for factor in factors):
        return x
    size = [(n - 1) * factor + 1 for n, factor in zip(x.shape[2:], factors, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *size)
    spread[(slice(None), slice(None), *(slice(None, None, factor) for factor in factors))] = x
    return spread


def _extend(x: Tensor, pads: list[int], mode: str) -> Tensor:
    if mode == "zeros":
        return F.pad(x, pads)
    # PyTorch's other modes refuse a crop, so it is done apart.
    x = F.pad(x, [max(pad, 0) for pad in pads], mode=mode)
    return F.pad(x, [min(pad, 0) for pad in pads])
