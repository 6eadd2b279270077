"""The two forms side by side: every layer beside what it stands for, and nothing counted twice or lost."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repfold.blocks import Block, DiracConv2d, RepVGGBranches
from repfold.fold import compare_costs

MEASURES = ("parameters", "multiply_adds", "traffic", "winograd")


class Mixed(nn.Module):
    """Branches, a norm behind a convolution, functional pieces, and a convolution with a computed kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(RepVGGBranches(3, 4), 4)
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.dirac = DiracConv2d(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(self.block(x))))
        return self.head(self.dirac(x).relu().mean((2, 3)))


class Undecided(Mixed):
    def forward(self, x):
        return super().forward(x) if x.sum() == x.sum() else x


def test_each_layer_stands_beside_its_modules():
    comparison = compare_costs(Mixed().eval(), torch.randn(1, 3, 8, 8))
    layers = {layer.name: layer for layer in comparison.layers}
    assert set(layers) == {"block.branches.conv", "conv", "dirac", "(operators)", "head"}
    block, plain = layers["block.branches.conv"], layers["conv"]
    assert block.train.parameters == (3 * 4 * 9 + 8) + (3 * 4 + 8) and block.folded.parameters == 3 * 4 * 9 + 4
    assert plain.train.parameters == 148 + 8 and plain.folded.parameters == 148
    assert plain.train.multiply_adds == 144 * 64 + 4 * 64 and plain.folded.multiply_adds == 144 * 64
    assert layers["head"].train == layers["head"].folded
    assert layers["dirac"].train.parameters == 144 + 8 and layers["dirac"].folded.parameters == 144
    assert comparison.regions == 3


@pytest.mark.parametrize("make", [Mixed, Undecided])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_layers_add_up(make, measure):
    comparison = compare_costs(make().eval(), torch.randn(1, 3, 8, 8))
    for form in ("train", "folded"):
        layers = [getattr(layer, form) for layer in comparison.layers]
        total = sum(getattr(layer, measure) for layer in layers if layer is not None)
        assert total == getattr(getattr(comparison, form).total, measure)


def test_parts_of_what_cannot_be_traced_keep_their_places():
    comparison = compare_costs(Undecided().eval(), torch.randn(1, 3, 8, 8))
    layers = {layer.name: layer for layer in comparison.layers}
    assert layers["block.branches.conv"].folded.parameters == 112
    # The forward calls this pair itself, and reads nothing between the two.
    assert layers["conv"].train.parameters == 148 + 8 and layers["conv"].folded.parameters == 148
    assert "norm" not in layers


def test_the_comparison_is_plain_data():
    content = compare_costs(Mixed().eval(), torch.randn(1, 3, 8, 8)).to_dict()
    assert content["train"]["total"]["parameters"] == sum(layer["parameters"] for layer in content["train"]["layers"])
    assert content["layers"][0]["folded"]["kind"] == "Conv2d"
