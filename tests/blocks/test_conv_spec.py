"""Every structure on geometries without a centre or with another padding: it is still one convolution of that kind."""

from __future__ import annotations

import pytest
import torch
from tests.blocks.kernels_by_hand import randomise
from torch import nn

import repfold
from repfold.blocks import BLOCKS
from repfold.blocks.conv_norm import ConvSpec
from repfold.errors import RepFoldError

GEOMETRIES = {
    "unpadded": {"kernel_size": 3, "padding": 0},
    "overpadded": {"kernel_size": 3, "padding": (3, 2)},
    "patches": {"kernel_size": 2, "stride": 2, "padding": 0},
    "even": {"kernel_size": 4, "padding": 1},
    "line": {"kernel_size": (1, 7), "padding": (0, 3)},
    "uneven": {"kernel_size": (4, 3), "stride": (2, 1), "padding": (3, 0), "groups": 2},
    "dilated": {"kernel_size": (2, 3), "dilation": (3, 2), "padding": (1, 3)},
    "reflected": {"kernel_size": (3, 4), "padding": (3, 1), "padding_mode": "reflect"},
    "replicated": {"kernel_size": 5, "padding": 1, "padding_mode": "replicate"},
    "depthwise": {"kernel_size": 5, "padding": 1, "groups": 4},
}
REFUSED = {("dbb", name) for name in ("dilated", "reflected", "replicated")} | {
    ("repghost", name) for name in ("patches", "uneven")
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_a_structure_folds_to_the_convolution_of_its_geometry(name, geometry):
    how = GEOMETRIES[geometry]
    if (name, geometry) in REFUSED:
        with pytest.raises(RepFoldError, match="does not exist"):
            BLOCKS[name](4, 4, **how)
        return
    block = randomise(BLOCKS[name](4, 4, **how))
    x = torch.randn(2, 4, 11, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    plain, _ = repfold.fold(block, x)
    (conv,) = [layer for layer in plain.modules() if isinstance(layer, nn.Conv2d)]
    shape = ConvSpec(4, 4, **how)
    assert conv.kernel_size == shape.kernel
    # A convolution of the graph pads with zeros, alike on both sides; any other padding is done before it.
    assert conv.padding in (shape.pads, (0, 0))
    wanted = nn.Conv2d(4, 4, **({"padding": 1} | how)).double()
    assert block(x).shape == wanted(x).shape
    torch.testing.assert_close(block(x), plain(x), rtol=1e-9, atol=1e-9)


def test_a_depthwise_average_takes_half_the_kernel_at_most():
    with pytest.raises(RepFoldError, match="half the kernel"):
        BLOCKS["dbb"](4, 4, groups=4, padding=2)
    block = BLOCKS["dbb"](8, 4, groups=4)  # as many groups as outputs, but not depthwise
    assert block(torch.randn(1, 8, 5, 5)).shape == (1, 4, 5, 5)
