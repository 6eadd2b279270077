"""Random affine convolutions of any geometry, and the slow oracle that every law is checked against."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import strategies as st

from repfold.algebra import AffineConv, Axis, Geometry


@st.composite
def axes(draw: st.DrawFn, *, upsample: bool = True) -> Axis:
    up = draw(st.sampled_from([1, 1, 1, 2, 3])) if upsample else 1
    return Axis(
        kernel=draw(st.integers(1, 4)),
        stride=draw(st.integers(1, 3)) if up == 1 else 1,
        low=draw(st.integers(-1, 3)),
        high=draw(st.integers(-1, 3)),
        dilation=draw(st.integers(1, 3)),
        upsampling=up,
    )


@st.composite
def convs(
    draw: st.DrawFn,
    *,
    dimensions: int | None = None,
    in_channels: int | None = None,
    out_channels: int | None = None,
    axis: st.SearchStrategy[Axis] | None = None,
    upsample: bool = True,
) -> AffineConv:
    n = draw(st.integers(0, 3)) if dimensions is None else dimensions
    inputs = draw(st.sampled_from([1, 2, 4, 6])) if in_channels is None else in_channels
    outputs = draw(st.sampled_from([1, 2, 4, 6])) if out_channels is None else out_channels
    divisors = [g for g in range(1, 7) if inputs % g == 0 and outputs % g == 0]
    drawn = axes(upsample=upsample) if axis is None else axis
    geometry = Geometry(inputs, outputs, tuple(draw(drawn) for _ in range(n)), draw(st.sampled_from(divisors)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weight = torch.randn(geometry.weight_shape, generator=generator, dtype=torch.float64)
    bias = torch.randn(outputs, generator=generator, dtype=torch.float64) if draw(st.booleans()) else None
    return AffineConv(weight, bias, geometry)


def random_input(geometry: Geometry, size: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    sizes = tuple(size + i for i in range(len(geometry.axes)))
    return torch.randn(2, geometry.in_channels, *sizes, generator=generator, dtype=torch.float64)


def runs(geometry: Geometry, size: tuple[int, ...]) -> bool:
    """Whether every output size is positive and no crop eats the whole input."""
    lengths = [(n - 1) * a.upsampling + 1 + min(a.low, 0) + min(a.high, 0) for a, n in zip(geometry.axes, size)]
    return all(n > 0 for n in lengths) and all(n > 0 for n in geometry.output_size(size))


def by_the_definition(conv: AffineConv, x: torch.Tensor) -> torch.Tensor:
    """y[n, o, p] = b[o] + Σ_i Σ_j w[o, i, j] · x̃[n, i, stride·p − low + dilation·j], by loops over taps and places."""
    geometry, x_np, w = conv.geometry, x.numpy(), conv.weight.numpy()
    out = geometry.output_size(tuple(x.shape[2:]))
    y = np.zeros((x.shape[0], geometry.out_channels, *out))
    per_in, per_out = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    for place in itertools.product(*map(range, out)):
        for tap in itertools.product(*map(range, geometry.kernel_size)):
            at = [a.stride * p - a.low + a.dilation * t for a, p, t in zip(geometry.axes, place, tap)]
            lengths = [(n - 1) * a.upsampling + 1 for a, n in zip(geometry.axes, x.shape[2:])]
            # a crop hides the samples outside it, and a padding reads zeros
            if any(q < 0 or q >= n or q % a.upsampling for q, n, a in zip(at, lengths, geometry.axes)):
                continue
            pixel = x_np[(slice(None), slice(None), *(q // a.upsampling for q, a in zip(at, geometry.axes)))]
            for g in range(geometry.groups):
                rows = slice(g * per_out, (g + 1) * per_out)
                block = w[(rows, slice(None), *tap)]
                y[(slice(None), rows, *place)] += pixel[:, g * per_in : (g + 1) * per_in] @ block.T
    if conv.bias is not None:
        y += conv.bias.numpy().reshape(-1, *(1,) * len(out))
    return torch.from_numpy(y)
