"""Normalisation within groups, and its gradient, by the kernels that BatchNorm has.

PyTorch's var_mean takes many times BatchNorm's time on a CPU where channels lie last in memory. BatchNorm's kernels
are used here for what they do in one pass: moments of each channel, a scale and a shift of each, and sums of the
gradient. A group of channels has the moments that follow from those of its channels,

    μ = mean(μ_c),   σ² = mean(σ_c²) + mean((μ_c - μ)²),

groups of rows and columns become channels of their own by one copy, and groups of samples are taken one after another.
With x̂ = (x - μ)/σ and y = γ x̂ + β:

    dγ = Σ g x̂,   dβ = Σ g,   dx = (γ g - mean(γ g) - x̂ mean(γ g x̂)) / σ

(Ioffe and Szegedy 2015; the means are those of a group).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

EACH = 0  # instead of gN: as many groups as there are samples

_backward = torch.ops.aten.native_batch_norm_backward.default
_normalise_into = torch.ops.aten.native_batch_norm.out


def grouped_norm(
    x_NCHW: Tensor, groups: Sequence[int], weight_C: Tensor | None, bias_C: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the batch normalised within ``groups`` = [gN, gC, gH, gW], scaled and shifted, in its own dtype.

    Also the mean and the (biased) variance of each group, [gN, gC, gH, gW], in float32 at least, without gradients.
    The groups have to divide the shape.
    """
    y_NCHW, mean, variance = _GroupedNorm.apply(x_NCHW, weight_C, bias_C, tuple(groups), eps)  # type: ignore[no-untyped-call]
    return y_NCHW, mean, variance


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm, trained in float32 where its kernels for bf16 are several times slower.

    That is on a CPU where channels lie last in memory and a group has fewer of them than a vector of bf16 numbers.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] -> the same, each sample and group of channels normalised by itself."""
        slow = input.device.type == "cpu" and input.element_size() < 4 and self.num_channels // self.num_groups < 16
        if not (self.training and slow) or input.is_contiguous():
            return super().forward(input)
        weight, bias = (None if given is None else given.float() for given in (self.weight, self.bias))
        return functional.group_norm(input.float(), self.num_groups, weight, bias, self.eps).to(input.dtype)


class _Cells:
    """A batch as [N, K, h, w]: a channel for each channel and group of rows and columns, K = gH·gW·C in this order."""

    def __init__(self, x_NCHW: Tensor, groups: Sequence[int]) -> None:
        samples, channels, height, width = x_NCHW.shape
        count, group_channels, rows, columns = groups[0] or samples, *groups[1:]
        self.whole, self.tiles = x_NCHW.shape, (rows, height // rows, columns, width // columns)
        self.in_groups = (count, rows, columns, group_channels, channels // group_channels)
        self.samples = samples // count  # of a group
        self.channels_first = x_NCHW.is_contiguous()

    def apart(self, x_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, K, h, w], a copy where there are groups of rows or columns."""
        rows, height, columns, width = self.tiles
        if rows == columns == 1:
            return x_NCHW
        tiled = x_NCHW.unflatten(3, (columns, width)).unflatten(2, (rows, height))  # N, C, gH, h, gW, w
        channels_last: Tensor = tiled.permute(0, 3, 5, 2, 4, 1).flatten(3).permute(0, 3, 1, 2)
        return channels_last.contiguous() if self.channels_first else channels_last

    def together(self, cells: Tensor) -> Tensor:
        """The inverse of ``apart``."""
        rows, height, columns, width = self.tiles
        if rows == columns == 1:
            return cells
        samples, channels = self.whole[:2]
        tiled = cells.permute(0, 2, 3, 1).reshape(samples, height, width, rows, columns, channels)
        pixels = tiled.permute(0, 3, 1, 4, 2, 5).reshape(samples, rows * height, columns * width, channels)
        whole = pixels.permute(0, 3, 1, 2)
        return whole.contiguous() if self.channels_first else whole

    def mean(self, of_cells: Tensor) -> Tensor:
        """The mean over the channels of each group: [gN, K] -> [gN, gH, gW, gC, 1]."""
        return of_cells.view(self.in_groups).mean(-1, keepdim=True)

    def spread(self, of_groups: Tensor) -> Tensor:
        """To each cell what its group has: [gN, gH, gW, gC, 1] -> [gN, K]."""
        # The kernels read it from memory, in which an expanded value stands once.
        return of_groups.expand(self.in_groups).reshape(self.in_groups[0], -1).contiguous()

    def of_channels(self, values_C: Tensor) -> Tensor:
        """To each cell what its channel has: [C] -> [1, K]."""
        return values_C.repeat(self.tiles[0] * self.tiles[2])[None]

    def over_channels(self, of_cells: Tensor) -> Tensor:
        """The sum of each channel's cells: [gN, K] -> [C]."""
        return of_cells.view(-1, self.whole[1]).sum(0)


class _GroupedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NCHW: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        groups: tuple[int, ...],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        cells = _Cells(x_NCHW, groups)
        x = cells.apart(x_NCHW)
        parts = x.split(cells.samples)
        moments = [torch.batch_norm_update_stats(part, None, None, 0.0) for part in parts]
        means, variances = (torch.stack(kind) for kind in zip(*moments, strict=True))
        mean = cells.mean(means)
        variance = cells.mean(variances + (means - cells.spread(mean)).square())
        scale = cells.spread((variance + eps).rsqrt())
        if weight_C is not None:
            scale = scale * cells.of_channels(weight_C.to(scale.dtype))
        shift = -cells.spread(mean) * scale
        if bias_C is not None:
            shift = shift + cells.of_channels(bias_C.to(scale.dtype))
        y = torch.empty_like(x)
        _scale_and_shift(parts, scale, shift, y.split(cells.samples))
        ctx.save_for_backward(x_NCHW, weight_C, mean, variance)
        ctx.groups, ctx.eps = groups, eps
        ctx.dtypes = [None if given is None else given.dtype for given in (weight_C, bias_C)]
        of_groups = (mean[..., 0].permute(0, 3, 1, 2), variance[..., 0].permute(0, 3, 1, 2))
        ctx.mark_non_differentiable(*of_groups)
        return cells.together(y), *of_groups

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x_NCHW, weight_C, mean, variance = ctx.saved_tensors
        cells = _Cells(x_NCHW, ctx.groups)
        x, gradient = cells.apart(x_NCHW), cells.apart(gradient_NCHW)
        inverse = (variance + ctx.eps).rsqrt()
        inverses, means = cells.spread(inverse), cells.spread(mean)
        parts, gradients = x.split(cells.samples), gradient.split(cells.samples)
        sums = [_sums(g, part, m, i) for g, part, m, i in zip(gradients, parts, means, inverses, strict=True)]
        products, totals = (torch.stack(kind) for kind in zip(*sums, strict=True))  # Σ g x̂ and Σ g of each cell
        dweight_C = cells.over_channels(products).to(ctx.dtypes[0]) if ctx.needs_input_grad[1] else None
        dbias_C = cells.over_channels(totals).to(ctx.dtypes[1]) if ctx.needs_input_grad[2] else None
        if not ctx.needs_input_grad[0]:
            return None, dweight_C, dbias_C, None, None
        scale = inverses
        if weight_C is not None:
            weight = cells.of_channels(weight_C.to(scale.dtype))
            scale, products, totals = scale * weight, products * weight, totals * weight
        values = cells.samples * x.shape[2] * x.shape[3]  # of a cell in all samples of a group
        along = -cells.spread(cells.mean(products) / values * inverse.square())  # what multiplies x - μ
        level = -cells.spread(cells.mean(totals) / values * inverse) - along * means
        dx = torch.empty_like(x)
        _scale_and_shift(parts, along, level, dx.split(cells.samples))
        _add_scaled(gradients, scale, dx.split(cells.samples))
        return cells.together(dx), dweight_C, dbias_C, None, None


def _scale_and_shift(parts: Sequence[Tensor], scale: Tensor, shift: Tensor, into: Sequence[Tensor]) -> None:
    """Write scale·x + shift of each channel, [gN, K] both: BatchNorm in evaluation, with mean 0 and variance 1."""
    zeros, ones = torch.zeros_like(scale[0]), torch.ones_like(scale[0])
    unused = scale.new_empty(0), scale.new_empty(0)
    for part, weight, bias, out in zip(parts, scale, shift, into, strict=True):
        _normalise_into(
            part, weight, bias, zeros, ones, False, 0.0, 0.0, out=out, save_mean=unused[0], save_invstd=unused[1]
        )


def _add_scaled(parts: Sequence[Tensor], scale: Tensor, into: Sequence[Tensor]) -> None:
    """Add scale·x of each channel."""
    for part, weight, out in zip(parts, scale, into, strict=True):
        out.addcmul_(part, weight.to(part.dtype)[:, None, None])


def _sums(gradient: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Σ g x̂ and Σ g of each channel: those of BatchNorm's gradient that belong to its scale and shift."""
    _, products, totals = _backward(
        gradient, x, torch.ones_like(mean), None, None, mean, inverse, True, 0.0, [False, True, True]
    )
    return products, totals
