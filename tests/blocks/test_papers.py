"""What is particular to one paper: initial values, padding rules, options."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.blocks.kernels_by_hand import acb, expandnet_cl, passed_through, randomise
from torch import nn

import repfold
from repfold.blocks import (
    ACB,
    DBB,
    CSLABranches,
    DiracConv2d,
    DOConv2d,
    ExpandConv2d,
    ExpandLinear,
    MobileOneBranches,
)
from repfold.blocks.dbb import NormAndPad
from repfold.blocks.delta_orthogonal import delta_orthogonal_, initialise_delta_orthogonal
from repfold.errors import RepFoldError

X = torch.randn(2, 4, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_acb_aligns_its_strips_under_any_padding(padding):
    block = randomise(ACB(4, 4, kernel_size=5, padding=padding))
    kernel, bias = acb(block, 1)
    torch.testing.assert_close(block(X), F.conv2d(X, kernel, bias, padding=padding))


def test_acb_reflects_around_its_strips_as_around_its_square():
    block = randomise(ACB(4, 4, padding=2, padding_mode="reflect"))
    kernel, bias = acb(block, 1)
    torch.testing.assert_close(block(X), F.conv2d(F.pad(X, (2,) * 4, mode="reflect"), kernel, bias))


def test_dbb_starts_its_first_1x1_as_the_identity():
    first = DBB(4, 6).point_kxk.point
    x = X.float()
    assert torch.equal(first(x), x)


def test_dbb_pads_the_norms_output_with_what_it_makes_of_zero_also_in_training():
    layer = randomise(NormAndPad(4, (2, 2))).train()
    norm = layer.norm
    border = norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps)
    x_NCHW = X
    mean, var = x_NCHW.mean((0, 2, 3)), x_NCHW.var((0, 2, 3), unbiased=False)
    y = layer(x_NCHW)
    inside = (x_NCHW - mean.view(1, -1, 1, 1)) / torch.sqrt(var + norm.eps).view(1, -1, 1, 1)
    inside = inside * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], inside)
    # The batch moved the running statistics before the border was taken from them.
    moved = norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps)
    assert not torch.allclose(moved, border)
    torch.testing.assert_close(y[0, :, 0, 0], moved)
    torch.testing.assert_close(y[1, :, -1, 5], moved)


def test_dbb_widens_between_its_convolutions():
    assert DBB(4, 6).point_kxk.conv.in_channels == 4
    assert DBB(4, 4, groups=4).point_kxk.conv.in_channels == 8
    assert DBB(4, 6, inner_channels=10).point_kxk.point.out_channels == 10


def test_doconv_starts_as_the_convolution_with_its_weight():
    layer = DOConv2d(4, 6, groups=2, bias=True).double()
    assert torch.count_nonzero(layer.depthwise) == 0
    assert torch.equal(layer(X), F.conv2d(X, layer.weight, layer.bias, padding=1, groups=2))
    assert DOConv2d(4, 4, kernel_size=1).depthwise is None


@pytest.mark.parametrize("groups", [1, 2])
def test_expandnet_carries_every_bias_to_the_end(groups):
    block = randomise(ExpandConv2d(4, 6, bias=True, rate=3, groups=groups, stride=2))
    kernel, bias = expandnet_cl(block, groups)
    expected = F.conv2d(X, kernel, bias, padding=1, stride=2, groups=groups)
    torch.testing.assert_close(block(X), expected)
    plain, _ = repfold.fold(block, X)
    torch.testing.assert_close(plain(X), expected)


@pytest.mark.parametrize("size", [5, 7])
def test_expandnet_ck_is_one_large_kernel_with_its_padding_and_stride(size):
    block = randomise(ExpandConv2d(4, 2, kind="ck", kernel_size=size, stride=2, rate=2, bias=True))
    assert [layer.kernel_size for layer in block.layers] == [(3, 3)] * ((size - 1) // 2)
    assert [layer.stride[0] for layer in block.layers] == [1] * (len(block.layers) - 1) + [2]
    # The kernel as the block's answer to unit impulses, far from any border.
    impulses = torch.zeros(4, 4, 4 * size + 1, 4 * size + 1, dtype=torch.float64)
    impulses[torch.arange(4), torch.arange(4), 2 * size, 2 * size] = 1
    dense = randomise(ExpandConv2d(4, 2, kind="ck", kernel_size=size, rate=2, bias=True))
    answer = dense(impulses) - dense(torch.zeros_like(impulses))
    reach = size // 2
    window = slice(2 * size - reach, 2 * size + reach + 1)
    kernel = answer[:, :, window, window].flip(2, 3).transpose(0, 1)
    bias = block.layers[0].bias
    for layer in block.layers[1:]:
        bias = passed_through(bias, layer.weight, 1) + layer.bias
    torch.testing.assert_close(block(X), F.conv2d(X, kernel, bias, padding=reach, stride=2))


def test_expand_linear_is_one_matrix():
    layer = ExpandLinear(3, 2, rate=5).double()
    first, second, third = layer.layers
    matrix = third.weight @ second.weight @ first.weight
    bias = third.weight @ (second.weight @ first.bias + second.bias) + third.bias
    x = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ matrix.T + bias)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kind": "fc"}, "'cl' or 'ck'"), ({"kind": "ck"}, "5x5 and larger"), ({"rate": 0}, "rate is 0")],
)
def test_expandnet_refuses_what_it_cannot_be(arguments, message):
    with pytest.raises(RepFoldError, match=message):
        ExpandConv2d(4, 4, **arguments)


def test_dirac_starts_from_either_published_point():
    layer = DiracConv2d(4, 4)
    assert layer.alpha.unique().tolist() == [1.0] and layer.beta.unique().tolist() == [pytest.approx(0.1)]
    strong = DiracConv2d(4, 4, alpha=5.0, beta=1e-3)
    x = X.float()
    torch.testing.assert_close(strong(x), 5 * x, rtol=1e-2, atol=1e-2)


def test_mobileone_has_k_kernels_and_a_1x1_only_beside_larger_ones():
    depthwise = MobileOneBranches(4, 4, groups=4, branches=4)
    assert len(depthwise.kxk) == 4 and depthwise.point.conv.groups == 4
    pointwise = MobileOneBranches(4, 6, kernel_size=1, branches=4)
    assert pointwise.point is None and pointwise.identity is None
    with pytest.raises(RepFoldError, match="at least one"):
        MobileOneBranches(4, 4, branches=0)


def test_csla_scales_are_constants_unless_searched_for():
    fixed = CSLABranches(4, 4, kxk_scale=torch.arange(4.0), point_scale=0.5, identity_scale=2.0)
    assert {name for name, _ in fixed.named_parameters()} == {"kxk.weight", "point.weight", "identity_scale_O11"}
    assert fixed.kxk_scale_O11.flatten().tolist() == [0, 1, 2, 3] and "kxk_scale_O11" in fixed.state_dict()
    searched = CSLABranches(4, 4, train_scales=True)
    assert searched.kxk_scale_O11.requires_grad and searched.point_scale_O11.requires_grad


def test_delta_orthogonal_kernels_are_isometries_at_their_centre():
    weight = delta_orthogonal_(torch.empty(6, 4, 3, 5), gain=3.0)
    centre = weight[:, :, 1, 2]
    torch.testing.assert_close(centre.T @ centre, 9 * torch.eye(4))
    weight[:, :, 1, 2] = 0
    assert torch.count_nonzero(weight) == 0


def test_delta_orthogonal_draws_both_signs_alike():
    # Without sign(diag R) LAPACK's convention shows: every diagonal entry of a 1x1 Q would be of one sign.
    torch.manual_seed(0)
    signs = [delta_orthogonal_(torch.empty(1, 1, 1, 1)).sign().item() for _ in range(200)]
    assert 60 < sum(sign > 0 for sign in signs) < 140


def test_delta_orthogonal_needs_enough_outputs():
    with pytest.raises(RepFoldError, match="at least as many output"):
        delta_orthogonal_(torch.empty(3, 4, 3, 3))
    network = nn.Sequential(nn.Conv2d(4, 3, 3), nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 3, 3))
    before = [layer.weight.clone() for layer in network]
    initialise_delta_orthogonal(network, math.sqrt(2))
    assert [torch.equal(layer.weight, old) for layer, old in zip(network, before)] == [True, True, False]
    assert torch.count_nonzero(network[2].bias) == 0
