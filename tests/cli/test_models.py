"""``repfold models``: every network, found by pattern, with costs that are those that counting gives."""

from __future__ import annotations

import json

import pytest
import torch

import repfold
from repfold import models
from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.fold import profile
from repfold.models.costs import find, image_of
from repfold.published import PUBLISHED

FOLDED = ["repvgg-pico", "resnet20-cifar", "mgnet-64", "vgg-pico", "repopt-vgg-pico-hs", "mobilenetv1-x0.25"]


def test_every_network_is_listed_with_costs_and_fits_a_screen(capsys):
    main(["models"])
    lines = capsys.readouterr().out.splitlines()
    searches = {name for name in models.MODELS if name.endswith("-hs")}
    assert {line.split()[0] for line in lines[2:-3]} == models.MODELS.keys() - searches
    assert {entry.name for entry in find("-hs")} == searches
    assert max(map(len, lines)) <= 120
    assert PUBLISHED.keys() <= models.MODELS.keys()


def test_a_pattern_finds_names_and_a_name_tells_all(capsys):
    assert {entry.name for entry in find("repvgg-a?")} == {"repvgg-a0", "repvgg-a1", "repvgg-a2"}
    assert all("resnet" in entry.name for entry in find("resnet")) and len(find("resnet18")) == 1
    main(["models", "mobileone-s0"])
    told = capsys.readouterr().out
    assert "timm/mobileone_s0.apple_in1k" in told and "mobileone-license" in told
    assert "repfold train DATA --init timm/mobileone_s0.apple_in1k" in told
    main(["models", "repvgg-a0", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["weights"][0]["licence"] == "mit" and entry["parameters"] > entry["folded_parameters"]
    with pytest.raises(RepFoldError, match="Did you mean 'repvgg-a0'"):
        find("repvgg-a00")


@pytest.mark.parametrize("name", FOLDED)
def test_the_costs_are_those_of_the_network_and_of_its_fold(name):
    (entry,) = find(name)
    side, preset = image_of(name)
    network, x = models.create(name, preset=preset).eval(), torch.randn(1, 3, side, side)
    plain, _ = repfold.fold(network, x)
    trained, folded = profile(network, x).total, profile(plain, x).total
    assert (entry.parameters, entry.multiply_adds) == (trained.parameters, trained.multiply_adds)
    assert (entry.folded_parameters, entry.folded_multiply_adds) == (folded.parameters, folded.multiply_adds)


def test_published_costs_of_repvgg_a0_are_met():
    """Ding et al. 2021, table 1: 8.30 M parameters and 1.4 G multiply-adds, folded."""
    (entry,) = find("repvgg-a0")
    assert round(entry.folded_parameters / 1e6, 2) == 8.31 and round(entry.folded_multiply_adds / 1e9, 1) == 1.4
