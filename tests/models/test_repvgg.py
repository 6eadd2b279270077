"""The RepVGG family: sizes as published, strides of the presets, the auxiliary heads' contract."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from repfold import models
from repfold.blocks import Block

# Millions of parameters in train form, as the paper's Table 4 prints them (and A0 exactly, as its checkpoint has).
PUBLISHED = {
    "repvgg-a0": 9.108968,
    "repvgg-a1": 14.09,
    "repvgg-a2": 28.21,
    "repvgg-b0": 15.82,
    "repvgg-b1": 57.42,
    "repvgg-b1g2": 45.78,
    "repvgg-b1g4": 39.97,
    "repvgg-b2": 89.02,
    "repvgg-b2g4": 61.76,
    "repvgg-b3": 123.09,
    "repvgg-b3g4": 83.83,
}


def on_meta(name: str, **arguments) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **arguments)


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_parameter_counts_are_the_published_ones(name, millions):
    count = sum(p.numel() for p in on_meta(name).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0 if name == "repvgg-a0" else 0.006)


def test_a0_has_the_state_of_the_published_checkpoint():
    assert len(on_meta("repvgg-a0").state_dict()) == 351


@pytest.mark.parametrize(("preset", "side"), [("imagenet", 7), ("32px", 28)])
def test_presets_set_the_total_stride(preset, side):
    network = on_meta("repvgg-a0", preset=preset).eval()
    seen = []
    network.pool.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert seen == [(1, 1280, side, side)]


@pytest.mark.parametrize(("name", "last"), [("repvgg-b1g4", 26), ("repvgg-a0g4", 20), ("repvgg-a2g4", 20)])
def test_grouped_members_group_every_second_block_to_the_last_but_one(name, last):
    """Of A the paper's layers 3, 5, ..., 21, counted from 1."""
    network = on_meta(name)
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    grouped = {index for index, block in enumerate(blocks) if block.branches.kxk.conv.groups == 4}
    assert grouped == set(range(2, last + 1, 2)) and len(blocks) == last + 2
    assert all(block.branches.kxk.conv.groups == block.branches.point.conv.groups for block in blocks)


def test_d2se_and_plus_place_their_squeeze_excite_as_published():
    d2se = on_meta("repvgg-d2se").stages[0][0]
    assert d2se.se_before.down.out_channels == 160 // 16 and d2se.se_after is None
    plus = on_meta("repvgg-plus-l2pse").stages[0][0]
    assert plus.se_after.down.out_channels == 160 // 4 and plus.se_before is None


def test_auxiliary_heads_answer_in_train_mode_only():
    network = on_meta("repvgg-plus-l2pse", num_classes=7)
    x = torch.empty(2, 3, 64, 64, device="meta")
    outputs = network.train()(x)
    assert isinstance(outputs, tuple) and [tuple(o.shape) for o in outputs] == [(2, 7)] * 4
    assert network.eval()(x).shape == (2, 7)
    assert [len(stage) for stage in network.stages] == [8, 14, 12, 12, 1]


def test_pico_sees_images_of_8_px_and_one_channel():
    network = models.create("repvgg-pico", num_classes=10, preset="32px", in_channels=1)
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert sum(p.numel() for p in network.parameters()) < 200_000
