"""Training with branches in place of a network's convolutions, and what is left of them after the fold."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import repfold
from repfold import models
from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.expand import EXPANDABLE
from repfold.train import Recipe, train

RECIPE = Recipe(
    data="digits", model="resnet20-cifar", expand="acb", epochs=1, per_class=(10, 3), batch=50, precision="fp32"
)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])  # in bf16 small maps are trained by convolutions of their own
def test_an_expanded_network_trains_is_kept_and_folds_back(tmp_path, precision):
    result = train(RECIPE.replace(precision=precision, device="cpu"), tmp_path / "run")
    assert len(result.records) == 1
    network = repfold.load(tmp_path / "run")
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    plain, certificate = repfold.fold(network, torch.rand(1, 1, 8, 8))
    as_built = repfold.models.create("resnet20-cifar", num_classes=10, in_channels=1).eval()
    folded, _ = repfold.fold(as_built, torch.rand(1, 1, 8, 8))
    assert count(network) > 1.5 * count(as_built)
    assert count(plain) == count(folded) and certificate.left == ()


def test_an_unknown_structure_names_the_nearest(tmp_path):
    with pytest.raises(RepFoldError, match="Did you mean 'acb'"):
        train(RECIPE.replace(expand="acbb"), tmp_path / "run")


OWN_NETWORK = """
from torch import nn

def net(num_classes=2, in_channels=3):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The working directory holds a user's network, and a picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "expand_factory", raising=False)
    Path("expand_factory.py").write_text(OWN_NETWORK)
    Image.fromarray(np.full((8, 8), 200, dtype=np.uint8)).save("picture.png")


@pytest.mark.parametrize("block", sorted(EXPANDABLE))
def test_a_network_of_ones_own_expanded_is_evaluated_predicts_and_goes_on(own, capsys, block):
    small = ["--per-class", "10", "3", "--batch", "50", "--threads", "1", "--no-finish", "--json"]
    begun = ["train", "digits", "--model", "expand_factory:net", "--expand", block, "--epochs", "1", "--out", "run"]
    main([*begun, *small])
    trained = json.loads(capsys.readouterr().out)["best"]

    main(["evaluate", "run", "--trust", "--json"])
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["top1"] == pytest.approx(trained["val_top1"])
    assert models.read_description("run").architecture.expand == block
    main(["predict", "run", "picture.png", "--trust"])
    assert "picture.png" in capsys.readouterr().out

    main(["train", "--resume", "--override", "--model", "expand_factory:net", "--epochs", "2", "--out", "run", *small])
    assert len(Path("run/record.jsonl").read_text().splitlines()) == 2

    network = models.load_model("run", trust=True).network
    plain, _ = repfold.fold(network, torch.rand(1, 1, 8, 8))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters > sum(parameter.numel() for parameter in plain.parameters())
