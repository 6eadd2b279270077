"""Fine-tuning: everything but a classifier of another size, or a clear refusal."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import fx, nn

import repfold
from repfold import models
from repfold.errors import RepFoldError


def pico(num_classes: int = 3, **options) -> nn.Module:
    return models.create("repvgg-pico", num_classes=num_classes, preset="32px", **options)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "source.safetensors"
    source = pico()
    repfold.save(source, path)
    return path, source


def test_the_same_network_is_loaded_whole(file):
    path, source = file
    network = pico()
    done = models.initialise(network, path)
    assert set(done.loaded) == source.state_dict().keys() and done.skipped == ()
    assert all(torch.equal(network.state_dict()[key], value) for key, value in source.state_dict().items())


def test_a_classifier_of_another_size_stays_fresh_and_is_named(file):
    path, source = file
    network = pico(num_classes=5)
    fresh = network.head.weight.detach().clone()
    done = models.initialise(network, path)
    assert done.skipped == ("head.bias", "head.weight")
    assert torch.equal(network.head.weight, fresh)
    assert torch.equal(network.stem.branches.kxk.conv.weight, source.stem.branches.kxk.conv.weight)
    assert "fresh: head.bias [5] for [3], head.weight [5, 128] for [3, 128]" in str(done) and str(path) in str(done)


def test_a_convolution_may_be_the_classifier(tmp_path):
    save_file(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 7, 1)).state_dict(), tmp_path / "w.safetensors")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    assert models.initialise(network, tmp_path / "w.safetensors").skipped == ("1.bias", "1.weight")


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (lambda: models.create("repvgg-a0", num_classes=3), "repvgg-a0"),
        (lambda: pico(in_channels=1), "repvgg-pico"),
        (lambda: nn.Linear(3, 3), "Linear"),
    ],
)
def test_another_architecture_is_refused_naming_both_and_changing_nothing(file, network, named):
    path, _ = file
    network = network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(RepFoldError, match=f"holds repvgg-pico in train form, but the network to start is {named}"):
        models.initialise(network, path)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_folded_file_does_not_start_a_train_form(tmp_path):
    folded = nn.Sequential(nn.Conv2d(3, 3, 3))
    description = models.Description(architecture=models.Architecture("repvgg-pico"), form="folded")
    repfold.save(fx.symbolic_trace(folded), tmp_path / "plain.safetensors", description=description)
    with pytest.raises(RepFoldError, match="repvgg-pico in folded form"):
        models.initialise(pico(), tmp_path / "plain.safetensors")


def test_a_wider_last_layer_is_no_classifier(tmp_path):
    save_file(nn.Sequential(nn.Linear(4, 7), nn.Linear(7, 2)).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(RepFoldError, match=r"'0.bias' is \[7\], not \[6\]"):
        models.initialise(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), tmp_path / "w.safetensors")
