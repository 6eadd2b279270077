"""Which pixels mattered: against the formula by hand in float64, and against a picture where it is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import repfold
from repfold.deploy.class_activation import ENOUGH, class_activation, layer_to_show
from repfold.graph.module import GraphNetwork


def folded(network: nn.Module, x: torch.Tensor) -> GraphNetwork:
    plain, _ = repfold.fold(network.eval(), x)
    assert isinstance(plain, GraphNetwork)
    return plain


def pooled(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)
    return nn.Sequential(*layers).double()


def test_with_a_global_pool_and_positive_weights_it_is_the_class_activation_map():
    network = pooled()
    network[4].weight.data.abs_()
    x = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    classes = torch.tensor([2, 0])
    found = class_activation(folded(network, x), x, classes)
    activation = F.relu(F.conv2d(x, network[0].weight, network[0].bias, padding=1))
    expected = torch.einsum("nchw,nc->nhw", activation, network[4].weight[classes])
    expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    assert torch.allclose(found.double(), expected, atol=1e-6)


def test_what_spoke_against_the_class_is_left_out():
    network = pooled()
    x = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    activation = F.relu(F.conv2d(x, network[0].weight, network[0].bias, padding=1))
    for label in range(3):
        expected = torch.einsum("nchw,c->nhw", activation, network[4].weight[label].relu())
        found = class_activation(folded(network, x), x, torch.tensor([label]))
        assert torch.allclose(found.double(), expected / expected.max(), atol=1e-6)


def test_a_class_that_nothing_spoke_for_has_a_map_of_zeros():
    network = pooled()
    network[4].weight.data.abs_().neg_()
    x = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    assert not class_activation(folded(network, x), x, torch.tensor([1])).any()


@pytest.mark.parametrize(("y", "x"), [(2, 3), (12, 9)])
def test_the_map_lies_where_the_object_is(y, x):
    """A network that counts bright pixels says "bright" of a picture with one bright spot."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    network[0].weight.data.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    network[0].bias.data.copy_(torch.tensor([-0.5, 0.5]))
    network[4].weight.data.copy_(torch.eye(2))
    picture = torch.zeros(1, 1, 16, 16)
    picture[0, 0, y : y + 3, x : x + 3] = 1
    (bright,) = class_activation(folded(network, picture), picture, torch.tensor([0]))
    assert bright[y : y + 3, x : x + 3].min() == 1 and bright.sum() == 9
    (dark,) = class_activation(folded(network, picture), picture, torch.tensor([1]))
    assert dark[y : y + 3, x : x + 3].max() == 0 and dark.sum() == 16 * 16 - 9


@pytest.fixture(scope="module")
def plain():
    network = repfold.models.create("repvgg-pico", num_classes=4)
    return folded(network, torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(("size", "side"), [(32, 8), (64, 8), (224, 7), (16, 8)])
def test_the_deepest_map_that_shows_enough_is_taken(plain, size, side):
    found = class_activation(plain, torch.randn(3, 3, size, size), torch.tensor([0, 1, 2]))
    assert found.shape == (3, side, side) and side >= ENOUGH
    assert found.min() >= 0 and found.max() <= 1


class Shortcut(nn.Module):
    """A part of the output does not go through the second convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.first(x).relu()
        return torch.cat([self.second(x).relu().mean((2, 3)), x.amax((2, 3))], 1)


def test_a_layer_that_a_part_of_the_output_goes_round_is_not_taken():
    plain = folded(Shortcut(), torch.randn(1, 1, 9, 9))
    layer = layer_to_show(plain.repfold_graph, (9, 9))
    assert layer is not None and layer.op == "relu" and layer["x"].op == "conv" and layer["x"]["x"].op == "input"


def test_without_a_map_of_pixels_there_is_nothing_to_show():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x = torch.randn(1, 1, 4, 4)
    assert class_activation(folded(network, x), x, torch.tensor([0])) is None
