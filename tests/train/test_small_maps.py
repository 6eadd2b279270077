"""Convolutions of small maps as matrix products: the same function, the same gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from repfold import models
from repfold.train import Recipe, machine
from repfold.train.faster_convolutions import SmallMapConv2d, replace_small_maps


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, torch.Tensor]:
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    conv = nn.Conv2d(
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
        kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        (draw(st.integers(0, kernel[0])), draw(st.integers(0, kernel[1]))),
        bias=draw(st.booleans()),
    ).double()
    height, width = (draw(st.integers(size, 5)) for size in kernel)
    return conv, torch.randn(draw(st.integers(1, 3)), conv.in_channels, height, width, dtype=torch.float64)


@given(convolutions(), st.booleans())
@settings(max_examples=60)
def test_the_function_and_its_gradients_are_those_of_the_convolution(case, whole):
    conv, x = case
    network = nn.Sequential(copy.deepcopy(conv))
    assert replace_small_maps(network, x) == (["0"] if conv(x)[0, 0].numel() <= 16 else [])
    if isinstance(network[0], SmallMapConv2d):
        network[0].whole = whole
    x_mine, x_theirs = (x.clone().requires_grad_() for _ in range(2))
    y_mine, y_theirs = network(x_mine), conv(x_theirs)
    assert torch.allclose(y_mine, y_theirs)
    grid = torch.randn_like(y_theirs)
    y_mine.backward(grid), y_theirs.backward(grid)
    assert torch.allclose(x_mine.grad, x_theirs.grad)
    for mine, theirs in zip(network.parameters(), conv.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad)


def test_the_gradients_pass_the_numerical_check():
    network = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1).double())
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    replace_small_maps(network, x)
    assert network[0].whole
    assert torch.autograd.gradcheck(network, x)


def test_only_dense_convolutions_of_small_maps_are_replaced_and_parameters_stay():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),  # 16x16
        nn.Conv2d(4, 4, 3, stride=4, padding=1),  # 4x4
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, stride=2)),  # 2x2
    ).train()
    before, parameters = copy.deepcopy(network.state_dict()), list(network.parameters())
    assert replace_small_maps(network, torch.randn(2, 3, 32, 32)) == ["1", "6.1"]
    assert (network[1].whole, network[6][1].whole) == (False, True)
    assert network.training and network[1].training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(mine is theirs for mine, theirs in zip(parameters, network.parameters(), strict=True))


def test_a_convolution_of_two_paths_stays_one_and_a_frozen_norm_frozen():
    conv = nn.Conv2d(2, 2, 1)
    network = nn.Sequential(conv, nn.BatchNorm2d(2).eval(), nn.Sequential(conv))
    replace_small_maps(network, torch.randn(2, 2, 4, 4))
    assert network[0] is network[2][0] and isinstance(network[0], SmallMapConv2d)
    assert not network[1].training


@pytest.mark.parametrize("whole", [False, True])
def test_a_step_in_bfloat16_is_that_of_the_convolution_up_to_rounding(whole):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, 3, padding=1)
    network = nn.Sequential(copy.deepcopy(conv))
    x = torch.randn(8, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    replace_small_maps(network, x)
    network[0].whole = whole
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = network(x), conv(x)
    assert mine.dtype is theirs.dtype is torch.bfloat16
    assert torch.allclose(mine.float(), theirs.float(), rtol=0.02, atol=0.02)
    mine.float().square().sum().backward(), theirs.float().square().sum().backward()
    error = (network[0].weight.grad - conv.weight.grad).norm() / conv.weight.grad.norm()
    assert network[0].weight.grad.dtype is torch.float32 and error < 0.01


def test_machines_that_do_not_gain_leave_the_network_alone():
    for changes, replaced in (({"precision": "bf16"}, True), ({"precision": "fp32"}, False)):
        chosen = machine.choose(Recipe(device="cpu", **changes))
        network = models.create("repvgg-pico", num_classes=3)
        chosen.specialise(chosen.prepare(network), (2, 3, 32, 32))
        assert any(isinstance(module, SmallMapConv2d) for module in network.modules()) is replaced
