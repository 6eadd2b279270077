"""Costs against the formulas, counted by hand, and against published figures."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import repfold
from repfold.fold import FoldError, compare_costs, profile
from repfold.models import create


def cost_of(network: nn.Module, *shape: int) -> tuple[int, int, int, int]:
    total = profile(network, torch.randn(shape)).total
    return total.parameters, total.multiply_adds, total.traffic, total.winograd


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 7, 9)),
        (nn.Conv2d(4, 6, 3, stride=2, bias=False), (1, 4, 9, 9)),
        (nn.Conv2d(4, 8, (1, 5), dilation=2, groups=4), (2, 4, 12, 12)),
        (nn.Conv1d(3, 5, 4), (1, 3, 11)),
        (nn.Conv3d(2, 3, 3, padding=1), (1, 2, 4, 5, 6)),
    ],
)
def test_a_convolution_counts_its_taps_at_every_output(layer, shape):
    y = layer(torch.zeros(shape))
    weights, biases = layer.weight.numel(), 0 if layer.bias is None else layer.bias.numel()
    positions = y.numel() // y.shape[1]
    multiply_adds = sum(layer.weight[0].numel() for _ in range(layer.out_channels)) * positions
    winograd = multiply_adds
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.stride == (1, 1):
        tiles = math.ceil(y.shape[2] / 2) * math.ceil(y.shape[3] / 2)
        winograd = 16 * tiles * layer.weight.shape[0] * layer.weight.shape[1]
    traffic = math.prod(shape) + y.numel() + weights + biases
    assert cost_of(layer, *shape) == (weights + biases, multiply_adds, traffic, winograd)


def test_a_transposed_convolution_counts_its_taps_at_every_input():
    layer = nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False)
    assert cost_of(layer, 1, 3, 5, 5) == (48, 48 * 25, 75 + 400 + 48, 48 * 25)


def test_linear_layers_norms_activations_and_sums():
    assert cost_of(nn.Linear(6, 4), 2, 6) == (28, 48, 12 + 24 + 4 + 8, 48)
    assert cost_of(nn.BatchNorm2d(3), 1, 3, 4, 4) == (6, 48, 48 + 48 + 4 * 3, 48)
    assert cost_of(nn.ReLU(), 1, 3, 4, 4) == (0, 0, 96, 0)
    assert cost_of(nn.ReLU(inplace=True), 1, 3, 4, 4) == (0, 0, 96, 0)
    assert cost_of(nn.Flatten(), 1, 3, 4, 4) == (0, 0, 0, 0)


class Functional(nn.Module):
    """Everything called as functions, one convolution called twice, and a decision by the values."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 3, 3))
        self.inner = nn.Conv2d(3, 3, 1, bias=False)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = self.inner(self.inner(x))
        return F.conv2d(x, self.weight, padding=1) + x if x.sum() == x.sum() else x


def test_layers_are_charged_where_their_operators_run():
    layers = {layer.name: layer for layer in profile(Functional(), torch.randn(1, 3, 4, 4)).layers}
    assert layers["inner"].multiply_adds == 2 * 9 * 16 and layers["inner"].parameters == 9
    assert layers[""].multiply_adds == 81 * 16 and layers[""].parameters == 81 and layers[""].kind == "Functional"
    assert (layers["unused"].parameters, layers["unused"].traffic) == (6, 0)


def test_attention_counts_its_matrix_products():
    layer = nn.MultiheadAttention(8, 2, batch_first=True)

    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = layer

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    tokens = 5
    projections, products = 4 * 8 * 8 * tokens, 2 * tokens * tokens * 8
    assert cost_of(Self(), 1, tokens, 8)[1] == projections + products


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    profile(network, torch.randn(1, 3, 8, 8))
    assert network.training and all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_tied_parameters_count_once():
    network = nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), nn.Conv2d(3, 3, 3, bias=False))
    network[1].weight = network[0].weight
    assert profile(network, torch.randn(1, 3, 8, 8)).total.parameters == 81


def test_an_example_that_does_not_fit():
    with pytest.raises(FoldError, match=r"cannot run on the example \(\(1, 4, 8, 8\)"):
        profile(nn.Conv2d(3, 3, 3), torch.randn(1, 4, 8, 8))


def test_published_figures():
    """RepVGG-A0 at 224 px: 8.30 M parameters, 1.4 B multiply-adds, 0.7 B Winograd multiplies (its paper, table 4)."""
    comparison = compare_costs(create("repvgg-a0").eval(), torch.randn(1, 3, 224, 224))
    folded = comparison.folded.total
    assert folded.parameters == 8_309_384 and comparison.train.total.parameters == 9_108_968
    assert round(folded.multiply_adds / 1e9, 1) == 1.4 and round(folded.winograd / 1e9, 1) == 0.7


def test_profile_is_exported():
    assert repfold.profile is profile
