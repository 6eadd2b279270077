"""The MobileOne family: sizes as published, where its branches and gates are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import repfold
from repfold import models
from repfold.blocks import MobileOneBranches
from repfold.blocks.squeeze_excite import SqueezeExcite

# Millions of parameters: in train form as the published checkpoints have, folded as the paper's Table 1 prints.
PUBLISHED = {
    "mobileone-s0": (5.29, 2.1),
    "mobileone-s1": (4.83, 4.8),
    "mobileone-s2": (7.88, 7.8),
    "mobileone-s3": (10.17, 10.1),
    "mobileone-s4": (14.95, 14.8),
}


def on_meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **options)


def millions(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    train_form, folded = PUBLISHED[name]
    assert millions(on_meta(name)) == pytest.approx(train_form, abs=0.006)
    # Without branches what is left is what folding leaves.
    plain = on_meta(name, block="plain", norm=False)
    assert millions(plain) == pytest.approx(folded, abs=0.1)


def test_s0_has_four_kernels_a_block_but_one_in_the_stem():
    network = on_meta("mobileone-s0")
    counts = [len(module.kxk) for module in network.modules() if isinstance(module, MobileOneBranches)]
    assert counts == [1] + [4] * 2 * (2 + 8 + 10 + 1)


def test_s4_gates_the_second_half_of_stage_3_and_stage_4():
    network = on_meta("mobileone-s4")
    gated = [block.se_before is not None for stage in network.stages for block in stage]
    assert gated == [False] * 2 * (2 + 8 + 5) + [True] * 2 * (5 + 1)
    gates = [module for module in network.modules() if isinstance(module, SqueezeExcite)]
    assert all(gate.down.out_channels == gate.down.in_channels // 16 for gate in gates)


def test_blocks_are_depthwise_and_pointwise_in_turn():
    network = on_meta("mobileone-s1")
    kernels = [block.branches.kxk[0].conv for stage in network.stages for block in stage]
    assert all(conv.groups == conv.in_channels and conv.kernel_size == (3, 3) for conv in kernels[::2])
    assert all(conv.groups == 1 and conv.kernel_size == (1, 1) for conv in kernels[1::2])


def test_s0_folds_whole_and_says_the_same():
    network = models.create("mobileone-s0", num_classes=3, preset="32px").eval()
    x = torch.rand(1, 3, 32, 32)  # a smaller map would come down to a pixel, and be recorded again, larger
    plain, certificate = repfold.fold(network, x)
    assert len(certificate.regions) == 43 and not certificate.left
    y = network(x)
    assert (plain(x) - y).abs().max() < 1e-5 * y.abs().max()
