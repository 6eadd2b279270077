"""W₂(W₁ x + b₁) + b₂ as one convolution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.algebra.geometries import axes, convs, random_input, runs

from repfold.algebra import AffineConv, Axis, Geometry, Inexact, sequence


@st.composite
def chains(draw):
    inner = draw(convs())
    outer = draw(convs(dimensions=len(inner.geometry.axes), in_channels=inner.geometry.out_channels))
    return inner, outer


@settings(max_examples=300)
@given(chains())
def test_a_sequence_is_exact_or_refused(chain):
    inner, outer = chain
    x = random_input(inner.geometry)
    size = tuple(x.shape[2:])
    if not runs(inner.geometry, size) or not runs(outer.geometry, inner.geometry.output_size(size)):
        return
    expected = outer(inner(x))
    try:
        one = sequence(inner, outer)
    except Inexact:
        return
    torch.testing.assert_close(one(x), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=100)
@given(st.data())
def test_unpadded_outer_at_upsampling_one_is_never_refused(data):
    inner = data.draw(convs(dimensions=2, upsample=False))
    unpadded = axes(upsample=False).map(lambda a: Axis(a.kernel, a.stride, min(a.low, 0), min(a.high, 0), a.dilation))
    outer = data.draw(convs(dimensions=2, in_channels=inner.geometry.out_channels, axis=unpadded))
    sequence(inner, outer)


def conv(kernel: int, padding: int, bias: bool) -> AffineConv:
    axis = Axis(kernel, low=padding, high=padding)
    geometry = Geometry(2, 2, (axis, axis))
    return AffineConv(
        torch.randn(geometry.weight_shape, dtype=torch.float64), torch.ones(2).double() if bias else None, geometry
    )


def test_zero_padding_after_a_bias_is_refused():
    with pytest.raises(Inexact, match="zero-padding after a bias"):
        sequence(conv(1, 0, bias=True), conv(3, 1, bias=False))


def test_zero_padding_after_a_spatial_kernel_is_refused():
    with pytest.raises(Inexact, match="padding after a spatial kernel"):
        sequence(conv(3, 1, bias=False), conv(3, 1, bias=False))


def test_padding_of_a_bias_free_pointwise_convolution_commutes():
    inner, outer = conv(1, 0, bias=False), conv(3, 1, bias=True)
    x = random_input(inner.geometry)
    torch.testing.assert_close(sequence(inner, outer)(x), outer(inner(x)), rtol=1e-12, atol=1e-12)
