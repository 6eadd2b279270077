"""The RepVGG block against its formula, written out with plain functions in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repfold.blocks import RepVGGBlock
from repfold.errors import RepFoldError


def randomised(module: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and affine parameters that a trained one could have."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.3, 2.0)
    return module.double().eval()


def norm(x: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
    shape = (1, -1, 1, 1)
    scaled = (x - bn.running_mean.view(shape)) / torch.sqrt(bn.running_var.view(shape) + bn.eps)
    return scaled * bn.weight.view(shape) + bn.bias.view(shape)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups"),
    [(4, 4, 3, 1, 1, 1), (4, 6, 3, 2, 1, 2), (4, 4, 5, 1, 2, 4), (3, 4, 3, 2, 2, 1), (4, 4, 1, 1, 1, 2)],
)
def test_block_is_the_sum_of_its_branches(in_channels, out_channels, kernel_size, stride, dilation, groups, mode):
    torch.manual_seed(0)
    block = randomised(
        RepVGGBlock(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            groups=groups,
            padding_mode=mode,
        )
    )
    x = torch.randn(2, in_channels, 9, 13, dtype=torch.float64)
    pad = dilation * (kernel_size // 2)
    padded = F.pad(x, (pad,) * 4, mode={"zeros": "constant"}.get(mode, mode)) if pad else x
    kxk = F.conv2d(padded, block.branches.kxk.conv.weight, stride=stride, dilation=dilation, groups=groups)
    point = F.conv2d(x, block.branches.point.conv.weight, stride=stride, groups=groups)
    expected = norm(kxk, block.branches.kxk.norm) + norm(point, block.branches.point.norm)
    if in_channels == out_channels and stride == 1:
        expected = expected + norm(x, block.branches.identity)
    else:
        assert block.branches.identity is None
    torch.testing.assert_close(block(x), expected.clamp(min=0))


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("size", [(8, 8), (5, 11)])
def test_squeeze_excite_gates_channels_by_their_means_on_any_size(place, size):
    torch.manual_seed(1)
    block = randomised(RepVGGBlock(4, 4, se=place, se_ratio=2))
    plain = RepVGGBlock(4, 4).double().eval()
    plain.load_state_dict(block.state_dict(), strict=False)
    plain.activation = nn.Identity()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    y = plain(x)
    if place == "after":
        y = y.clamp(min=0)
    gate_of = block.se_before if place == "before" else block.se_after
    assert gate_of.down.out_channels == 2
    hidden = (y.mean((2, 3)) @ gate_of.down.weight.flatten(1).T + gate_of.down.bias).clamp(min=0)
    gate = 1 / (1 + torch.exp(-(hidden @ gate_of.up.weight.flatten(1).T + gate_of.up.bias)))
    torch.testing.assert_close(block(x), (y * gate[:, :, None, None]).clamp(min=0))


def test_an_even_kernel_is_refused_because_it_has_no_centre():
    with pytest.raises(RepFoldError, match="odd kernel size"):
        RepVGGBlock(4, 4, kernel_size=2)


def test_a_wrong_place_for_squeeze_excite_is_refused():
    with pytest.raises(RepFoldError, match="'before', 'after' or None"):
        RepVGGBlock(4, 4, se="inside")
