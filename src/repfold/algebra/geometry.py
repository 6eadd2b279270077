"""The geometry of an affine convolution, and how geometries combine.

Along one spatial axis an affine convolution reads

    y[n] = Σ_j w[j] · x̃[stride·n − low + dilation·j] + b

where x̃ is the input with ``upsampling − 1`` zeros between its samples, extended beyond its borders by zeros (or by
reflection, replication or wrapping). ``low`` and ``high`` are the samples added before and after; negative ones crop.
A transposed convolution of stride s is the case ``upsampling = s``; a linear layer has no spatial axes at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


class Inexact(ValueError):
    """The law does not hold for these operands; the message says why. Nothing is ever approximated instead."""


@dataclass(frozen=True)
class Axis:
    """One spatial axis: sizes in samples."""

    kernel: int = 1
    stride: int = 1
    low: int = 0
    high: int = 0
    dilation: int = 1
    upsampling: int = 1

    @property
    def extent(self) -> int:
        """Samples from the first tap to the last, both included."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def spacing(self) -> int:
        """Distance between taps; 0 for a single tap, the neutral element of the greatest common divisor."""
        return self.dilation if self.kernel > 1 else 0

    @property
    def margin(self) -> int:
        """What the output is longer than the input by (at stride 1)."""
        return self.low + self.high - self.extent + 1

    @property
    def pads(self) -> bool:
        """Whether samples are added at either end; negative amounts crop."""
        return self.low > 0 or self.high > 0

    def output_size(self, size: int) -> int:
        """Number of output samples for ``size`` input samples."""
        return ((size - 1) * self.upsampling + self.margin) // self.stride + 1


@dataclass(frozen=True)
class Geometry:
    """Channels, groups, spatial axes and the padding mode ("zeros", "reflect", "replicate" or "circular")."""

    in_channels: int
    out_channels: int
    axes: tuple[Axis, ...] = ()
    groups: int = 1
    mode: str = "zeros"

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Taps along each spatial axis."""
        return tuple(axis.kernel for axis in self.axes)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[O, I/groups, *kernel]."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def weight_count(self) -> int:
        """Number of elements of a weight of ``weight_shape``."""
        return math.prod(self.weight_shape)

    @property
    def pads(self) -> bool:
        """Whether any axis adds samples; one that only crops does not."""
        return any(axis.pads for axis in self.axes)

    @property
    def is_pointwise(self) -> bool:
        """Whether every output sample sees one input sample at the same position."""
        return all(axis == Axis() for axis in self.axes)

    @property
    def is_channelwise(self) -> bool:
        """Whether output channel c sees input channel c alone."""
        return self.groups == self.in_channels == self.out_channels

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Output size of every spatial axis for an input of ``size``."""
        return tuple(axis.output_size(n) for axis, n in zip(self.axes, size, strict=True))

    def regrouped(self, groups: int) -> Geometry:
        """The same geometry with another number of groups, and so another ``weight_shape``."""
        return replace(self, groups=groups)


def per_axis(value: int | tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """One value for each axis, given as such or as one for all."""
    return (value,) * dimensions if isinstance(value, int) else tuple(value)


def conv_axes(
    kernel: tuple[int, ...],
    stride: int | tuple[int, ...],
    padding: int | str | tuple[int, ...],
    dilation: int | tuple[int, ...],
) -> tuple[Axis, ...]:
    """Axes of a convolution as PyTorch gives them; 'same' pads the odd sample at the end."""
    n = len(kernel)
    spread = per_axis(dilation, n)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(spread, kernel, strict=True)]
        pads = [(total // 2, total - total // 2) for total in totals]
    else:
        pads = [(p, p) for p in per_axis(0 if padding == "valid" else padding, n)]  # type: ignore[arg-type]
    return tuple(
        Axis(k, s, low, high, d if k > 1 else 1)
        for k, s, (low, high), d in zip(kernel, per_axis(stride, n), pads, spread, strict=True)
    )


def identity_geometry(channels: int, dimensions: int) -> Geometry:
    """The geometry of the identity: one tap, a group per channel."""
    return Geometry(channels, channels, (Axis(),) * dimensions, groups=channels)


def sum_geometry(a: Geometry, b: Geometry) -> Geometry:
    """The geometry of x ↦ A x + B x: the smallest one that both kernels embed in.

    Raises: Inexact when strides, sizes, or the rules that extend the input differ.
    """
    if (a.in_channels, a.out_channels, len(a.axes)) != (b.in_channels, b.out_channels, len(b.axes)):
        raise Inexact(f"a sum of {a.out_channels} and {b.out_channels} channels (or of different dimensions)")
    axes = tuple(_sum_axis(p, q) for p, q in zip(a.axes, b.axes, strict=True))
    return Geometry(a.in_channels, a.out_channels, axes, math.gcd(a.groups, b.groups), _common_mode(a, b))


def _sum_axis(a: Axis, b: Axis) -> Axis:
    if (a.stride, a.upsampling) != (b.stride, b.upsampling):
        raise Inexact(f"a sum of branches of stride {a.stride}/{a.upsampling} and {b.stride}/{b.upsampling}")
    if a.margin != b.margin:
        raise Inexact(f"a sum of branches whose output sizes differ by {abs(a.margin - b.margin)} at stride 1")
    low = max(a.low, b.low)
    shift_a, shift_b = low - a.low, low - b.low
    extent = max(shift_a + a.extent, shift_b + b.extent)
    dilation = math.gcd(a.spacing, b.spacing, shift_a + shift_b) or 1  # one of the two shifts is 0
    kernel = (extent - 1) // dilation + 1
    return Axis(kernel, a.stride, low, a.margin + extent - 1 - low, dilation, a.upsampling)


def sequence_geometry(inner: Geometry, outer: Geometry, *, inner_bias_is_zero: bool) -> Geometry:
    """The geometry of x ↦ outer(inner(x)).

    Raises: Inexact when the outer convolution pads what the inner one gives, unless the padding commutes with it: zeros
    do when the inner kernel is a single tap along that axis and its bias is 0; reflection, replication and wrapping do
    when the inner is a single tap at stride 1. Also when the outer one inserts zeros into a biased or strided signal.
    """
    if inner.out_channels != outer.in_channels or len(inner.axes) != len(outer.axes):
        raise Inexact(f"a sequence of {inner.out_channels} channels into {outer.in_channels}")
    if any(axis.upsampling > 1 for axis in outer.axes) and not inner_bias_is_zero:
        raise Inexact("zeros inserted after a bias: the network has no bias at the inserted samples")
    if outer.pads and outer.mode == "zeros" and not inner_bias_is_zero:
        raise Inexact("zero-padding after a bias: the border would see the bias where the network sees zeros")
    commute = _zero_padding_commutes if outer.mode == "zeros" else _extension_commutes
    for p, q in zip(inner.axes, outer.axes, strict=True):
        if not commute(p, q):
            raise Inexact("padding after a spatial kernel: the border would see partial sums where the network pads")
    axes = tuple(_sequence_axis(p, q) for p, q in zip(inner.axes, outer.axes, strict=True))
    if inner.pads and inner.mode != "zeros" and any(axis.upsampling > 1 for axis in outer.axes):
        raise Inexact(f"zeros inserted into a signal padded by mode '{inner.mode}'")
    groups = math.gcd(inner.groups, outer.groups)
    return Geometry(inner.in_channels, outer.out_channels, axes, groups, _common_mode(inner, outer))


def _zero_padding_commutes(inner: Axis, outer: Axis) -> bool:
    sides = ((inner.low, outer.low), (inner.high, outer.high))
    return all(added <= 0 or (inner.kernel == 1 and before >= 0) for before, added in sides)


def _extension_commutes(inner: Axis, outer: Axis) -> bool:
    return not outer.pads or inner == Axis()


def _sequence_axis(inner: Axis, outer: Axis) -> Axis:
    if outer.upsampling > 1 and inner.stride > 1:
        raise Inexact(f"zeros inserted after a stride of {inner.stride}")
    dilation = math.gcd(outer.upsampling * inner.spacing, inner.stride * outer.spacing) or 1
    extent = outer.upsampling * (inner.extent - 1) + inner.stride * (outer.extent - 1) + 1
    return Axis(
        kernel=(extent - 1) // dilation + 1,
        stride=inner.stride * outer.stride,
        low=outer.upsampling * inner.low + inner.stride * outer.low,
        high=outer.upsampling * inner.high + inner.stride * outer.high,
        dilation=dilation,
        upsampling=inner.upsampling * outer.upsampling,
    )


def _common_mode(a: Geometry, b: Geometry) -> str:
    modes = {g.mode for g in (a, b) if g.pads}
    if len(modes) > 1:
        raise Inexact(f"paddings of different modes: {' and '.join(sorted(modes))}")
    return modes.pop() if modes else "zeros"
