"""The block around a structure: activation and squeeze-excite, against their formulas."""

from __future__ import annotations

import pytest
import torch
from tests.blocks.kernels_by_hand import randomise
from torch import nn

from repfold.blocks import Block, RepVGGBlock
from repfold.errors import RepFoldError


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("size", [(8, 8), (5, 11)])
def test_squeeze_excite_gates_channels_by_their_means_on_any_size(place, size):
    block = randomise(RepVGGBlock(4, 4, se=place, se_ratio=2))
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    y = block.branches(x)
    if place == "after":
        y = y.clamp(min=0)
    gate_of = block.se_before if place == "before" else block.se_after
    assert gate_of.down.out_channels == 2
    hidden = (y.mean((2, 3)) @ gate_of.down.weight.flatten(1).T + gate_of.down.bias).clamp(min=0)
    gate = 1 / (1 + torch.exp(-(hidden @ gate_of.up.weight.flatten(1).T + gate_of.up.bias)))
    torch.testing.assert_close(block(x), (y * gate[:, :, None, None]).clamp(min=0))


def test_without_squeeze_excite_a_block_is_its_branches_and_the_activation():
    block = Block(nn.Conv2d(3, 4, 3), 4, activation=lambda: nn.LeakyReLU(0.5))
    x = torch.randn(1, 3, 5, 5)
    y = block.branches(x)
    torch.testing.assert_close(block(x), torch.where(y > 0, y, 0.5 * y))
    assert {name.split(".")[0] for name in block.state_dict()} == {"branches"}


def test_a_wrong_place_for_squeeze_excite_is_refused():
    with pytest.raises(RepFoldError, match="'before', 'after' or None"):
        RepVGGBlock(4, 4, se="inside")
