"""How PyTorch's modules read as affine convolutions. The tables at the end are all that the fold knows of modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from repfold.algebra import (
    AffineConv,
    Axis,
    Geometry,
    average_pool,
    conv_axes,
    identity,
    identity_geometry,
    per_axis,
    pixel_shuffle,
    pixel_unshuffle,
    scaling,
    transposed,
)
from repfold.fold.constants import float64, float64_weights
from repfold.fold.pieces import CHANNELS_LAST, Reading, Unfoldable

STATISTICS = ("running_mean", "running_var", "weight", "bias")

ModuleReader = Callable[[nn.Module, tuple[int, ...]], Reading]


def pool_axes(options: Any, dimensions: int) -> tuple[Axis, ...]:
    """Axes of an average pooling, whose options are a module's attributes or a call's arguments.

    Raises: Unfoldable where its divisor or its size varies along the border.
    """
    kernel = per_axis(options.kernel_size, dimensions)
    stride = per_axis(options.stride or kernel, dimensions)
    padding = per_axis(options.padding, dimensions)
    if options.ceil_mode:
        raise Unfoldable("average pooling with ceil_mode divides by fewer samples at the border")
    if not options.count_include_pad and any(padding):
        raise Unfoldable("average pooling with count_include_pad=False divides by fewer samples at the border")
    return tuple(Axis(k, s, p, p) for k, s, p in zip(kernel, stride, padding, strict=True))


def read_conv(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    axes = conv_axes(module.kernel_size, module.stride, module.padding, module.dilation)
    geometry = Geometry(module.in_channels, module.out_channels, axes, module.groups, module.padding_mode)

    def build() -> AffineConv:
        return AffineConv(*float64_weights(module), geometry)

    return Reading(geometry, build)


def read_transposed(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    assert isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    axes = conv_axes(module.kernel_size, module.stride, module.padding, module.dilation)
    extra = tuple(module.output_padding)

    def build() -> AffineConv:
        return transposed(*float64_weights(module), module.groups, axes, extra)

    empty = torch.empty(module.weight.shape, device="meta")
    return Reading(transposed(empty, None, module.groups, axes, extra).geometry, build)


def read_linear(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    assert isinstance(module, nn.Linear)
    geometry = Geometry(module.in_features, module.out_features)

    def build() -> AffineConv:
        return AffineConv(*float64_weights(module), geometry)

    return Reading(geometry, build, CHANNELS_LAST)


def read_norm(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    """BatchNorm of any kind (and InstanceNorm that tracks statistics) in eval mode."""
    if module.training:
        raise Unfoldable("it is in train mode, where it normalises by the batch's own statistics; call eval()")
    if not isinstance(module.running_mean, Tensor):
        raise Unfoldable("it keeps no running statistics, so it normalises by the batch's own")
    channels, dimensions = shape[1], len(shape) - 2
    if module.running_mean.numel() != channels:
        raise Unfoldable("its input has no batch axis")

    def build() -> AffineConv:
        mean, variance, weight, bias = (float64(getattr(module, name)) for name in STATISTICS)
        assert mean is not None and variance is not None
        scale = torch.rsqrt(variance + module.eps)  # type: ignore[operator]
        scale = scale if weight is None else weight * scale
        return scaling(scale, -mean * scale if bias is None else bias - mean * scale, dimensions)

    return Reading(identity_geometry(channels, dimensions), build)


def read_average_pool(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    axes = pool_axes(module, len(shape) - 2)
    divisor = getattr(module, "divisor_override", None)
    return Reading(average_pool(shape[1], axes, divisor).geometry, lambda: average_pool(shape[1], axes, divisor))


def read_identity(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    if module.training and isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        raise Unfoldable("it is in train mode, where it is random; call eval()")
    return identity_reading(shape)


def identity_reading(shape: tuple[int, ...]) -> Reading:
    channels, dimensions = shape[1], len(shape) - 2
    return Reading(identity_geometry(channels, dimensions), lambda: identity(channels, dimensions))


def pad_reading(shape: tuple[int, ...], pads: list[tuple[int, int]], mode: str) -> Reading:
    """Padding of the last axes, first axis first: one tap per channel on a larger (or cropped) input."""
    free = len(shape) - 2 - len(pads)
    axes = (Axis(),) * free + tuple(Axis(low=low, high=high) for low, high in pads)
    geometry = Geometry(shape[1], shape[1], axes, groups=shape[1], mode=mode)
    weight = torch.ones(geometry.weight_shape, dtype=torch.float64)
    return Reading(geometry, lambda: AffineConv(weight, None, geometry))


def flat_pads(padding: tuple[int, ...]) -> list[tuple[int, int]]:
    """PyTorch's (last axis low, last axis high, …) as pairs, first axis first."""
    return list(zip(padding[0::2], padding[1::2], strict=True))[::-1]


def read_zero_pad(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    if getattr(module, "value", 0.0):
        raise Unfoldable("it pads with a value other than 0")
    return pad_reading(shape, flat_pads(module.padding), "zeros")  # type: ignore[arg-type]


def read_mode_pad(mode: str) -> ModuleReader:
    return lambda module, shape: pad_reading(shape, flat_pads(module.padding), mode)  # type: ignore[arg-type]


def read_pixel_shuffle(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    assert isinstance(module, nn.PixelShuffle)
    factor = module.upscale_factor
    channels = shape[1] // factor**2
    return Reading(pixel_shuffle(channels, factor).geometry, lambda: pixel_shuffle(channels, factor))


def read_pixel_unshuffle(module: nn.Module, shape: tuple[int, ...]) -> Reading:
    assert isinstance(module, nn.PixelUnshuffle)
    factor = module.downscale_factor
    return Reading(pixel_unshuffle(shape[1], factor).geometry, lambda: pixel_unshuffle(shape[1], factor))


CONVOLUTIONS: dict[type[nn.Module], ModuleReader] = {
    nn.Conv1d: read_conv,
    nn.Conv2d: read_conv,
    nn.Conv3d: read_conv,
    nn.ConvTranspose1d: read_transposed,
    nn.ConvTranspose2d: read_transposed,
    nn.ConvTranspose3d: read_transposed,
    nn.Linear: read_linear,
}

NORMS: dict[type[nn.Module], ModuleReader] = {
    nn.BatchNorm1d: read_norm,
    nn.BatchNorm2d: read_norm,
    nn.BatchNorm3d: read_norm,
    nn.SyncBatchNorm: read_norm,
    nn.InstanceNorm1d: read_norm,
    nn.InstanceNorm2d: read_norm,
    nn.InstanceNorm3d: read_norm,
}

OTHERS: dict[type[nn.Module], ModuleReader] = {
    nn.AvgPool1d: read_average_pool,
    nn.AvgPool2d: read_average_pool,
    nn.AvgPool3d: read_average_pool,
    nn.Identity: read_identity,
    nn.Dropout: read_identity,
    nn.Dropout1d: read_identity,
    nn.Dropout2d: read_identity,
    nn.Dropout3d: read_identity,
    nn.ZeroPad1d: read_zero_pad,
    nn.ZeroPad2d: read_zero_pad,
    nn.ZeroPad3d: read_zero_pad,
    nn.ConstantPad1d: read_zero_pad,
    nn.ConstantPad2d: read_zero_pad,
    nn.ConstantPad3d: read_zero_pad,
    nn.ReflectionPad1d: read_mode_pad("reflect"),
    nn.ReflectionPad2d: read_mode_pad("reflect"),
    nn.ReflectionPad3d: read_mode_pad("reflect"),
    nn.ReplicationPad1d: read_mode_pad("replicate"),
    nn.ReplicationPad2d: read_mode_pad("replicate"),
    nn.ReplicationPad3d: read_mode_pad("replicate"),
    nn.CircularPad1d: read_mode_pad("circular"),
    nn.CircularPad2d: read_mode_pad("circular"),
    nn.CircularPad3d: read_mode_pad("circular"),
    nn.PixelShuffle: read_pixel_shuffle,
    nn.PixelUnshuffle: read_pixel_unshuffle,
}

MODULES: dict[type[nn.Module], ModuleReader] = CONVOLUTIONS | NORMS | OTHERS
