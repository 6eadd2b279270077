"""``repfold fold`` on run directories, model files, names and factories."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import repfold
from repfold import models
from repfold.cli import main

FACTORY = """
from torch import nn

def net(num_classes=4):
    body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes))
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "fold_factory.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "fold_factory", raising=False)
    return "fold_factory:net"


@pytest.fixture
def run(tmp_path):
    network = models.create("repvgg-pico", num_classes=3, preset="32px", in_channels=1).train()
    network(torch.rand(16, 1, 8, 8))
    description = models.Description(
        architecture=models.Architecture("repvgg-pico", 3, "32px", 1),
        classes=("a", "b", "c"),
        preprocessing=models.Preprocessing(8, 8, (0.5,), (0.5,), 1),
    )
    repfold.save(network, tmp_path / "best.safetensors", description=description)
    return tmp_path, network.eval()


def test_a_run_directory_gets_its_plain_network_and_certificate(run, capsys):
    directory, network = run
    main(["fold", str(directory), "--json"])
    summary = json.loads(capsys.readouterr().out)
    plain = models.load_model(directory, form="plain")
    assert plain.description.form == "folded" and plain.description.classes == ("a", "b", "c")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.network.modules())
    x = torch.rand(3, 1, 16, 8)
    torch.testing.assert_close(plain.network(x), network(x), rtol=1e-4, atol=1e-5)
    certificate = json.loads((directory / "certificate.json").read_text())
    assert certificate == summary["certificate"] and certificate["error"] < 1e-5
    assert summary["parameters"][0] > summary["parameters"][1]


def test_a_factory_and_a_wrapped_checkpoint_fold_to_a_file_that_needs_neither(factory, tmp_path, capsys):
    network = models.create(factory, num_classes=2).eval()
    nn.init.normal_(network[0][1].bias)
    checkpoint = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}
    torch.save(checkpoint, "weights.pth")
    arguments = ["--weights", "weights.pth", "--example", "1,3,12,9", "--num-classes", "2"]
    main(["fold", factory, *arguments, "-o", "plain.safetensors"])
    assert "1 region folded" in capsys.readouterr().out
    x = torch.rand(2, 3, 20, 11)
    torch.testing.assert_close(repfold.load("plain.safetensors")(x), network(x))


def test_folding_straight_to_pt2(factory, tmp_path):
    main(["fold", factory, "--example", "1,3,12,12", "-o", "plain.pt2"])
    assert torch.export.load("plain.pt2").module()(torch.rand(2, 3, 20, 11)).shape == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "neither a file nor a run directory"),
        (["repvgg-pica", "-o", "x.safetensors"], "Did you mean 'repvgg-pico'"),
        (["repvgg-pico"], "not a run directory"),
        (["repvgg-pico", "-o", "x.bin"], "unknown format '.bin'"),
        (["repvgg-pico", "-o", "x.safetensors", "--example", "3,a"], "--example '3,a'"),
        (["repvgg-pico", "-o", "x.safetensors", "--example", "1,3,0,4"], "at least 1"),
        (["repvgg-pico", "-o", "x.safetensors", "--example", "1,4,32,32"], "4 channels"),
        (["repvgg-pico", "-o", "x.safetensors", "--weights", "gone.pth"], "not a file"),
        (["repvgg-pico", "-o", "x.safetensors", "--weights", "text.pth"], "not a complete safetensors"),
        (["repvgg-pico", "-o", "x.safetensors", "--weights", "objects.pth"], "more than tensors"),
        (["repvgg-pico", "-o", "x.safetensors", "--weights", "numbers.pth"], "holds no state_dict"),
        (["repvgg-pico", "-o", "x.safetensors", "--weights", "other.pth"], "does not fit RepVGG"),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("these are no weights")
    torch.save({"model": nn.Linear(1, 1)}, "objects.pth")
    torch.save({"epoch": 3, "model": {"loss": 1.0}}, "numbers.pth")
    torch.save(nn.Linear(1, 1).state_dict(), "other.pth")
    with pytest.raises(SystemExit) as caught:
        main(["fold", *arguments])
    captured = capsys.readouterr()
    assert caught.value.code == 2 and message in captured.err and "Traceback" not in captured.err
    assert not (tmp_path / "x.safetensors").exists()


def test_a_file_brings_its_own_weights(run, capsys):
    directory, _ = run
    with pytest.raises(SystemExit):
        main(["fold", str(directory), "--num-classes", "3"])
    assert "brings its weights and classes" in capsys.readouterr().err
