"""The options of every family: other structures in the blocks' places, plain networks, what excludes what."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import repfold
from repfold import models
from repfold.blocks import BLOCKS, Block
from repfold.errors import RepFoldError


@pytest.mark.parametrize("family", ["repvgg-pico", "mobileone-s1"])
@pytest.mark.parametrize("block", sorted(BLOCKS.keys() - {"repghost"}))
def test_every_structure_can_be_stacked_and_saved(tmp_path, family, block):
    network = models.create(family, num_classes=2, preset="32px", block=block).eval()
    path = tmp_path / "net.safetensors"
    repfold.save(network, path)
    usual = {"repvgg-pico": "repvgg", "mobileone-s1": "mobileone"}[family]
    options = {} if block == usual else {"block": block}
    assert models.read_description(path).architecture == models.Architecture(family, 2, "32px", 3, options)
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(repfold.load(path)(x), network(x))


def test_a_plain_network_without_norms_keeps_images_apart_through_its_depth():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    apart = {}
    for init in ("default", "delta-orthogonal"):
        style = {"block": "plain", "norm": False, "activation": "leaky-relu", "init": init}
        network = models.create("repvgg-a0", num_classes=10, preset="32px", **style).eval()
        assert not any(isinstance(layer, (nn.BatchNorm2d, nn.ReLU)) for layer in network.modules())
        features = network.stages[3](network.stages[2](network.stages[1](network.stages[0](network.stem(x)))))
        apart[init] = distance(features) / distance(x)
    assert 0.2 < apart["delta-orthogonal"] < 5 and apart["default"] < 0.01


def distance(x_NCHW: torch.Tensor) -> float:
    """Between the batch's two images, a pixel."""
    return (x_NCHW[0] - x_NCHW[1]).square().sum(dim=0).mean().sqrt().item()


def test_blocks_of_mobileone_take_as_many_kernels_as_asked():
    network = models.create("vgg-pico", block="mobileone", branches=4)
    assert {len(block.branches.kxk) for block in network.modules() if isinstance(block, Block)} == {4}
    assert models.architecture_of(network).options == {"block": "mobileone", "branches": 4}


@pytest.mark.parametrize("depth", [30, 100])
def test_depth_is_the_number_of_layers_with_weights_and_is_kept_in_the_file(tmp_path, depth):
    style = {"block": "plain", "norm": False, "activation": "leaky-relu", "init": "delta-orthogonal"}
    network = models.create("vgg-pico", num_classes=2, preset="32px", depth=depth, **style).eval()
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth and all(len(stage) for stage in network.stages)
    repfold.save(network, tmp_path / "net.safetensors")
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(repfold.load(tmp_path / "net.safetensors")(x), network(x))


def test_a_given_depth_is_shared_out_in_the_table_s_proportions():
    with torch.device("meta"):
        stages = models.create("vgg-a0", depth=100).stages
        assert [len(stage) for stage in models.create("vgg-a0", depth=23).stages] == [2, 4, 14, 1]
    assert [len(stage) for stage in stages] == [10, 19, 68, 1]


def test_structures_without_norms_get_one_behind_them():
    network = models.create("repvgg-pico", block="doconv")
    assert list(dict(network.stem.branches.named_children())) == ["structure", "norm"]
    bare = models.create("repvgg-pico", block="doconv", norm=False)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in bare.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "repvg"}, "Did you mean 'repvgg'"),
        ({"activation": "swish"}, "Known: leaky-relu, relu"),
        ({"init": "delta"}, "Did you mean|Known: default"),
        ({"norm": False}, "norms inside its branches"),
        ({"init": "delta-orthogonal"}, "for plain networks"),
        ({"width": 3}, "width"),
        ({"branches": 4}, "for block 'mobileone'"),
        ({"block": "mobileone", "branches": 99}, "from 1 to 16"),
        ({"depth": 5}, "from 6 to 1000"),
        ({"depth": 10_000}, "from 6 to 1000"),
    ],
)
def test_options_that_do_not_exist_or_exclude_each_other_are_refused(options, message):
    with pytest.raises(RepFoldError, match=message):
        models.create("repvgg-pico", **options)
