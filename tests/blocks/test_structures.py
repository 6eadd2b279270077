"""Every structure equals the one convolution that its paper says, on any geometry, and folds to it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.blocks.kernels_by_hand import EQUIVALENT, randomise
from torch import nn

import repfold
from repfold.blocks import BLOCKS, STRUCTURES, WITHOUT_NORM, Invertible
from repfold.errors import RepFoldError

GEOMETRIES = {
    "plain": {},
    "stride": {"stride": 2},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4},
    "large": {"kernel_size": 5},
    "dilation": {"dilation": 2},
    "circular": {"padding_mode": "circular"},
    "strided groups": {"stride": 2, "groups": 2, "kernel_size": 5, "dilation": 2, "padding_mode": "reflect"},
}
# What a paper's structure cannot be.
REFUSED = {
    ("dbb", "dilation"),
    ("dbb", "circular"),
    ("dbb", "strided groups"),
    *(("repghost", name) for name in ("stride", "groups", "strided groups")),
}


def make(name: str, geometry: dict, channels: tuple[int, int] = (4, 4)) -> nn.Module:
    return randomise(BLOCKS[name](*channels, **geometry))


def equal_convolution(x, kernel, bias, *, stride=1, dilation=1, groups=1, padding_mode="zeros", kernel_size=3):
    padding = dilation * (kernel_size // 2)
    x = F.pad(x, (padding,) * 4, mode={"zeros": "constant"}.get(padding_mode, padding_mode))
    return F.conv2d(x, kernel, bias, stride=stride, dilation=dilation, groups=groups)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_a_structure_is_the_convolution_of_its_papers_formula(name, geometry):
    how = GEOMETRIES[geometry]
    if (name, geometry) in REFUSED:
        with pytest.raises(RepFoldError, match="does not exist"):
            make(name, how)
        return
    block = make(name, how)
    groups = 4 if name == "repghost" else how.get("groups", 1)
    kernel, bias = EQUIVALENT[name](block, groups)
    x = torch.randn(2, 4, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = equal_convolution(x, kernel, bias, **(how | {"groups": groups}))
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)
    plain, certificate = repfold.fold(block, x)
    (conv,) = [layer for layer in plain.modules() if isinstance(layer, nn.Conv2d)]
    torch.testing.assert_close(conv.weight, kernel, rtol=1e-9, atol=1e-9)
    assert not certificate.left and not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - {"repghost"}))
def test_a_structure_may_change_the_number_of_channels(name):
    block = make(name, {"groups": 2}, (4, 6))
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64)
    kernel, bias = EQUIVALENT[name](block, 2)
    torch.testing.assert_close(block(x), F.conv2d(x, kernel, bias, padding=1, groups=2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_a_structure_trains_and_has_its_norms_inside_or_none(name):
    block = BLOCKS[name](4, 4)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in block.modules()) == (name not in WITHOUT_NORM)
    block.train()(torch.rand(4, 4, 6, 6)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize("geometry", ["plain", "stride", "depthwise"])
@pytest.mark.parametrize("name", sorted(name for name, kind in STRUCTURES.items() if issubclass(kind, Invertible)))
def test_what_takes_over_a_convolution_is_the_structures_own(name, geometry):
    block = STRUCTURES[name](4, 4, **GEOMETRIES[geometry])
    inverse = block.inverse()
    parameters, modules = ({id(own) for own in owned} for owned in (block.parameters(), block.modules()))
    taken = [tensor for tensor in (inverse.kernel, inverse.bias, inverse.absorbs) if tensor is not None]
    norms = [norm for norm in (inverse.norm, inverse.through, *inverse.quiet) if norm is not None]
    assert taken and {id(tensor) for tensor in taken} <= parameters
    assert {id(norm) for norm in norms} <= modules and len({id(norm) for norm in norms}) == len(norms)
    assert (inverse.norm is not None) == type(block).has_norms


@pytest.mark.parametrize("name", sorted(WITHOUT_NORM))
def test_a_structure_without_norms_takes_a_bias(name):
    block = STRUCTURES[name](4, 4, bias=True)
    assert block.inverse().bias.shape == (4,) and STRUCTURES[name](4, 4).inverse().bias is None


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_even_kernels_and_uneven_groups_are_refused(name):
    with pytest.raises(RepFoldError, match="odd kernel size"):
        BLOCKS[name](4, 4, kernel_size=2)
    with pytest.raises(RepFoldError, match="3 groups"):
        BLOCKS[name](4, 4, groups=3)


def test_the_checker_rejects_a_wrong_kernel():
    block = make("dbb", {})
    kernel, bias = EQUIVALENT["dbb"](block, 1)
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    assert not torch.allclose(block(x), F.conv2d(x, kernel.flip(0), bias, padding=1))
    assert not torch.allclose(block(x), F.conv2d(x, kernel, None, padding=1))
