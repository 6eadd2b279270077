"""An affine convolution as an ordinary PyTorch layer, after a padding layer where PyTorch's own cannot pad so."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from repfold.algebra import AffineConv, Axis, Geometry

CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Callable[..., nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
ZERO_PADS: dict[int, Callable[..., nn.Module]] = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
MODE_PADS: dict[str, dict[int, Callable[..., nn.Module]]] = {
    "reflect": {1: nn.ReflectionPad1d, 2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d},
    "replicate": {1: nn.ReplicationPad1d, 2: nn.ReplicationPad2d, 3: nn.ReplicationPad3d},
    "circular": {1: nn.CircularPad1d, 2: nn.CircularPad2d, 3: nn.CircularPad3d},
}


def to_layers(conv: AffineConv, dtype: torch.dtype, device: torch.device) -> list[nn.Module]:
    """The layers, to be called one after another, that compute ``conv``; their parameters train."""
    geometry = conv.geometry
    if not geometry.axes:
        layer: nn.Module = nn.Linear(
            geometry.in_channels, geometry.out_channels, conv.bias is not None, device="meta", dtype=dtype
        )
        return [_filled(layer, conv.weight, conv.bias, dtype, device)]
    if any(axis.upsampling > 1 for axis in geometry.axes):
        return [
            _filled(_transposed(geometry, conv.bias is not None, dtype), _unflipped(conv), conv.bias, dtype, device)
        ]
    symmetric = all(axis.low == axis.high >= 0 for axis in geometry.axes)
    layer = CONVOLUTIONS[len(geometry.axes)](
        geometry.in_channels,
        geometry.out_channels,
        geometry.kernel_size,
        tuple(axis.stride for axis in geometry.axes),
        tuple(axis.low for axis in geometry.axes) if symmetric else 0,
        tuple(axis.dilation for axis in geometry.axes),
        geometry.groups,
        conv.bias is not None,
        geometry.mode if symmetric else "zeros",
        device="meta",
        dtype=dtype,
    )
    pads = [] if symmetric else _pad_layers(geometry.axes, geometry.mode)
    return [*pads, _filled(layer, conv.weight, conv.bias, dtype, device)]


def _filled(
    layer: nn.Module, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, device: torch.device
) -> nn.Module:
    layer.weight = nn.Parameter(weight.detach().to(device, dtype).contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().to(device, dtype).contiguous())
    return layer


def _pad_layers(axes: tuple[Axis, ...], mode: str) -> list[nn.Module]:
    pads = [amount for axis in reversed(axes) for amount in (axis.low, axis.high)]
    n = len(axes)
    if mode == "zeros":
        return [ZERO_PADS[n](tuple(pads))]
    extension, crop = tuple(max(p, 0) for p in pads), tuple(min(p, 0) for p in pads)
    return [MODE_PADS[mode][n](extension), *([ZERO_PADS[n](crop)] if any(crop) else [])]


def _transposed(geometry: Geometry, bias: bool, dtype: torch.dtype) -> nn.Module:
    axes = geometry.axes
    return TRANSPOSED[len(axes)](
        geometry.in_channels,
        geometry.out_channels,
        geometry.kernel_size,
        tuple(axis.upsampling for axis in axes),
        tuple(axis.extent - 1 - axis.low for axis in axes),
        tuple(axis.high - axis.low for axis in axes),
        geometry.groups,
        bias,
        tuple(axis.dilation for axis in axes),
        device="meta",
        dtype=dtype,
    )


def _unflipped(conv: AffineConv) -> Tensor:
    """[O, I/groups, *k] as the [I, O/groups, *k], flipped, of a transposed convolution."""
    groups = conv.geometry.groups
    weight = conv.weight.flip(tuple(range(2, conv.weight.dim())))
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
