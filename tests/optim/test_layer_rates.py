"""Rates layer by layer: a block is one layer whatever its branches, and the classifier has its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from repfold import models
from repfold.errors import RepFoldError
from repfold.optim.groups import parameter_groups
from repfold.optim.layer_rates import classifier_of, rate_scales


def scales_by_name(network, classes, **rates):
    found = rate_scales(network, classifier_of(network, classes), **rates)
    return {name: found[parameter] for name, parameter in network.named_parameters()}


def test_blocks_decay_downwards_and_all_branches_of_one_alike():
    network = models.create("repvgg-pico", num_classes=7)  # a stem and 1 + 2 + 2 + 1 blocks
    found = scales_by_name(network, 7, layer_decay=0.5, head_rate=10)
    blocks = ["stem", "stages.0.0", "stages.1.0", "stages.1.1", "stages.2.0", "stages.2.1", "stages.3.0"]
    for distance, block in enumerate(reversed(blocks)):
        assert {value for name, value in found.items() if name.startswith(f"{block}.")} == {0.5**distance}
    assert found["head.weight"] == found["head.bias"] == 10


def test_a_norm_goes_with_the_layer_before_it():
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    network = nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    found = scales_by_name(network, 5, layer_decay=0.1)
    assert found["0.0.weight"] == found["0.1.bias"] == pytest.approx(0.1)
    assert found["0.3.weight"] == found["0.4.weight"] == found["3.bias"] == 1


def test_auxiliary_classifiers_and_a_last_convolution_are_classifiers():
    with torch.device("meta"):
        network = models.create("repvgg-plus-l2pse", num_classes=6)
    assert len(classifier_of(network, 6)) == 2 * 4
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1))
    assert classifier_of(network, 6) == frozenset(network[1].parameters())
    with pytest.raises(RepFoldError, match="no telling which is its classifier"):
        classifier_of(network, 9)


def test_groups_hold_every_parameter_once_with_its_decay_and_scale():
    network = models.create("repvgg-pico", num_classes=7)
    found = rate_scales(network, classifier_of(network, 7), layer_decay=0.5, head_rate=3)
    groups = parameter_groups(network).for_optimizer(1e-4, found)
    held = {parameter: group for group in groups for parameter in group["params"]}
    assert len(held) == sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert all(held[parameter]["lr_scale"] == scale for parameter, scale in found.items())
    assert held[network.head.weight]["weight_decay"] == 1e-4 and held[network.head.bias]["weight_decay"] == 0
