"""A x + B x as one convolution."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.algebra.geometries import convs, random_input, runs

from repfold.algebra import Axis, Geometry, Inexact, add, identity


@st.composite
def branches(draw):
    """Two branches of one stride whose output sizes agree, with kernels at different places."""
    a = draw(convs())
    b = draw(
        convs(dimensions=len(a.geometry.axes), in_channels=a.geometry.in_channels, out_channels=a.geometry.out_channels)
    )
    axes = []
    for p, q in zip(a.geometry.axes, b.geometry.axes, strict=True):
        low = draw(st.integers(-1, 3))
        axes.append(
            dataclasses.replace(
                q, stride=p.stride, upsampling=p.upsampling, low=low, high=p.margin + q.extent - 1 - low
            )
        )
    return a, dataclasses.replace(b, geometry=dataclasses.replace(b.geometry, axes=tuple(axes)))


@settings(max_examples=300)
@given(branches())
def test_a_sum_is_exact(pair):
    a, b = pair
    x = random_input(a.geometry)
    size = tuple(x.shape[2:])
    if not runs(a.geometry, size) or not runs(b.geometry, size):
        return
    torch.testing.assert_close(add(a, b)(x), a(x) + b(x), rtol=1e-12, atol=1e-12)


def test_the_identity_is_embedded_in_the_centre():
    one = add(identity(2, 2), dataclasses.replace(identity(2, 2), geometry=Geometry(2, 2, (Axis(), Axis()), 2)))
    assert one.geometry.kernel_size == (1, 1)


@pytest.mark.parametrize("other", [Axis(3, 2, 1, 1), Axis(3, 1, 0, 0), Axis(3, 1, 1, 1, upsampling=2)])
def test_different_strides_or_sizes_are_refused(other):
    a = identity(2, 1)
    wide = Geometry(2, 2, (other,), 2)
    b = dataclasses.replace(a, weight=torch.ones(wide.weight_shape).double(), geometry=wide)
    with pytest.raises(Inexact, match="a sum of branches"):
        add(a, b)


def test_paddings_of_different_modes_are_refused():
    geometry = Geometry(1, 1, (Axis(3, low=1, high=1),))
    a = dataclasses.replace(identity(1, 1), weight=torch.ones(1, 1, 3).double(), geometry=geometry)
    b = dataclasses.replace(a, geometry=dataclasses.replace(geometry, mode="reflect"))
    with pytest.raises(Inexact, match="different modes"):
        add(a, b)
