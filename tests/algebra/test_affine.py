"""The normal form against its definition, and each way to make one against PyTorch's own layer."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.algebra.geometries import by_the_definition, convs, random_input, runs
from torch import nn

from repfold.algebra import Axis, average_pool, pixel_shuffle, pixel_unshuffle, scaling, selection, transposed


@settings(max_examples=60)
@given(st.integers(1, 2).flatmap(lambda n: convs(dimensions=n)))
def test_application_is_the_definition(conv):
    x = random_input(conv.geometry, size=5)
    if runs(conv.geometry, tuple(x.shape[2:])) and all(a.low >= 0 and a.high >= 0 for a in conv.geometry.axes):
        torch.testing.assert_close(conv(x), by_the_definition(conv, x), rtol=1e-12, atol=1e-12)


def test_the_oracle_rejects_a_shifted_kernel():
    axis = Axis(3, low=1, high=1)
    conv = average_pool(1, (axis,))
    x = random_input(conv.geometry)
    shifted = average_pool(1, (Axis(3, low=2, high=0),))
    assert not torch.allclose(by_the_definition(conv, x), shifted(x))


@settings(max_examples=60)
@given(st.data())
def test_transposed_convolution(data):
    groups = data.draw(st.sampled_from([1, 2]))
    kernel, stride, dilation = (data.draw(st.integers(1, 3)) for _ in range(3))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1))
    padding = data.draw(st.integers(0, dilation * (kernel - 1)))
    layer = nn.ConvTranspose2d(4, 6, kernel, stride, padding, extra, groups, True, dilation).double()
    axis = Axis(kernel, stride, padding, padding, dilation)
    conv = transposed(layer.weight, layer.bias, groups, (axis, axis), (extra, extra))
    x = torch.randn(2, 4, 8, 9, dtype=torch.float64)  # large enough that every padding leaves an output
    torch.testing.assert_close(conv(x), layer(x), rtol=1e-12, atol=1e-12)


def test_pixel_shuffle_and_unshuffle():
    x = torch.randn(2, 18, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(pixel_shuffle(2, 3)(x), nn.functional.pixel_shuffle(x, 3))
    y = torch.randn(2, 2, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(pixel_unshuffle(2, 3)(y), nn.functional.pixel_unshuffle(y, 3))


def test_scaling_is_batch_norm_in_eval_mode():
    norm = nn.BatchNorm2d(3).double().eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    norm.running_var.uniform_(0.5, 2)
    t = norm.weight / (norm.running_var + norm.eps).sqrt()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(scaling(t, norm.bias - norm.running_mean * t, 2)(x), norm(x), rtol=1e-12, atol=1e-12)


def test_selection_picks_channels():
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    index = torch.tensor([3, 0, 0, 4])
    torch.testing.assert_close(selection(index, 5, 1)(x), x[:, index])


def test_average_pool():
    axis = Axis(3, 2, 1, 1)
    x = torch.randn(2, 5, 8, 9, dtype=torch.float64)
    torch.testing.assert_close(average_pool(5, (axis, axis))(x), nn.functional.avg_pool2d(x, 3, 2, 1))
