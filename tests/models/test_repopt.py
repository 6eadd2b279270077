"""RepOpt-VGG: the published networks, their hyper-search networks, the branches that a target stands for."""

import copy
import math

import pytest
import torch

from repfold import models
from repfold.errors import RepFoldError
from repfold.fold import fold
from repfold.models.repopt import TABLES, branch_network, csla_blocks, initial_scales, target_name
from repfold.models.scales import BlockScales, Scales
from repfold.optim import reparameterize


@pytest.mark.parametrize(
    # B1 to L2 as published (github.com/DingXiaoH/RepOptimizers), in millions
    "name, millions",
    [("b1", 51.8), ("b2", 80.3), ("l1", 76.0), ("l2", 118.1)],
)
def test_published_parameter_counts(name, millions):
    with torch.device("meta"):
        network = models.create(f"repopt-vgg-{name}")
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


def test_a0_has_the_parameters_of_repvgg_a0_folded_and_norms():
    with torch.device("meta"):
        target, plain = models.create("repopt-vgg-a0"), models.create("vgg-a0")
    assert [p.shape for p in target.parameters()] == [p.shape for p in plain.parameters()]


def test_the_search_begins_at_the_papers_scales_and_trains_all_of_them():
    network = models.create("repopt-vgg-a0-hs", num_classes=3)
    blocks = csla_blocks(network)
    assert list(blocks)[:4] == ["stem", "stages.0.0", "stages.0.1", "stages.1.0"] and len(blocks) == 22
    expected = {"stem": 1.0, "stages.2.0": 1.0, "stages.2.1": math.sqrt(2), "stages.2.13": math.sqrt(2 / 13)}
    for name, value in expected.items():
        for scale in (blocks[name].kxk_scale_O11, blocks[name].point_scale_O11):
            assert scale.requires_grad and torch.equal(scale.unique(), torch.tensor([value]))
    identities = {name for name, block in blocks.items() if block.identity_scale_O11 is not None}
    assert identities == {name for name in blocks if not name.endswith(".0") and name != "stem"}


def test_search_networks_are_rebuilt_from_their_file_and_fold(tmp_path):
    network = models.create("repopt-vgg-pico-hs", num_classes=3, preset="32px", in_channels=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    models.save(network, tmp_path / "model.safetensors")
    loaded = models.load_model(tmp_path / "model.safetensors")
    again = loaded.network
    assert loaded.description.architecture.name == "repopt-vgg-pico-hs"
    assert csla_blocks(again)["stem"].kxk_scale_O11.requires_grad
    assert all(torch.equal(p, q) for p, q in zip(again.state_dict().values(), network.state_dict().values()))
    plain, certificate = fold(again, torch.randn(2, 1, 16, 16))
    assert len(certificate.regions) == 7 and len([m for m in plain.modules() if isinstance(m, torch.nn.Conv2d)]) == 7


def test_the_target_is_what_its_branches_fold_to():
    target = models.create("repopt-vgg-pico", num_classes=3, preset="32px")
    branches = branch_network(target)
    plain, rules = reparameterize(branches, torch.randn(2, 3, 16, 16))
    target.load_state_dict({target_name(name): value for name, value in plain.state_dict().items()})
    moved = rules.on(target, target_name)
    assert len(moved) == 7 and all(rule.kind == "mask" for rule in moved)
    x = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(target.train()(x), branches.train()(x), rtol=1e-3, atol=1e-4)


def test_branches_take_the_scales():
    target = models.create("repopt-vgg-pico", num_classes=3)
    wanted = initial_scales(branch_network(target))
    wanted = Scales(
        {
            name: BlockScales(b.kxk_O * 2, b.point_O * 3, None if b.identity_O is None else b.identity_O * 4)
            for name, b in wanted.blocks.items()
        }
    )
    blocks = csla_blocks(branch_network(target, wanted))
    for name, block in blocks.items():
        assert torch.equal(block.kxk_scale_O11.flatten(), wanted.blocks[name].kxk_O)
        assert torch.equal(block.point_scale_O11.flatten(), wanted.blocks[name].point_O)
        assert not block.kxk_scale_O11.requires_grad


def changed(scales: Scales, **blocks: BlockScales | None) -> Scales:
    kept = dict(scales.blocks)
    for name, block in blocks.items():
        name = name.replace("_", ".")
        kept = {k: v for k, v in kept.items() if k != name} if block is None else {**kept, name: block}
    return Scales(kept)


OTHER = {
    "of another depth": (
        lambda s: changed(s, stages_1_1=None),
        r"6 blocks, but repopt-vgg-pico has 7.*repopt-vgg-pico-hs",
    ),
    "of other widths": (
        lambda s: changed(s, stem=BlockScales(torch.ones(9), torch.ones(9))),
        r"block stem are for 9 channels.*16",
    ),
    "of other strides": (
        lambda s: changed(s, stages_0_0=BlockScales(torch.ones(16), torch.ones(16), torch.ones(16))),
        r"an identity in block stages\.0\.0.*Search with the preset",
    ),
    "not finite": (
        lambda s: changed(s, stem=BlockScales(torch.ones(16), torch.full((16,), torch.nan))),
        r"the scale stem\.point is not finite",
    ),
}


@pytest.mark.parametrize("change, message", OTHER.values(), ids=OTHER)
def test_scales_that_do_not_fit_are_refused(change, message):
    target = models.create("repopt-vgg-pico", num_classes=3)
    scales = initial_scales(branch_network(target))
    with pytest.raises(RepFoldError, match=message):
        branch_network(copy.deepcopy(target), change(scales))


def test_every_member_has_its_search_network():
    assert {f"{name}-hs" for name in TABLES if not name.endswith("-hs")} == {n for n in TABLES if n.endswith("-hs")}
