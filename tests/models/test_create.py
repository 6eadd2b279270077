"""Networks by name: the tables, the user's own factories, and what is said of wrong names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from repfold import models
from repfold.errors import RepFoldError

FACTORIES = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=5, in_channels=3, width=4):
        super().__init__()
        self.body = nn.Conv2d(in_channels, width, 3)
        self.head = nn.Linear(width, num_classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

def without_classes():
    return Net()

def zoo(**kwargs):
    return Net(**kwargs)

def not_a_network():
    return 3

def broken():
    raise AttributeError("inside")

number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch) -> str:
    (tmp_path / "own_networks.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_networks", raising=False)
    return "own_networks"


def test_a_factory_in_the_current_directory_gets_what_it_takes(factories):
    network = models.create(f"{factories}:Net", num_classes=7, in_channels=1, width=2)
    assert network(torch.rand(1, 1, 5, 5)).shape == (1, 7)
    assert models.create(f"{factories}:without_classes", num_classes=7).head.out_features == 5
    assert models.create(f"{factories}:zoo", num_classes=7).head.out_features == 7


def test_an_installed_factory_needs_no_current_directory():
    assert isinstance(models.create("torch.nn:Identity"), nn.Identity)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("repvgg-a9", {}, "Did you mean 'repvgg-a"),
        ("resnet", {}, "package.module:factory"),
        ("repvgg-a0", {"preset": "imagnet"}, "Did you mean 'imagenet'"),
        ("repvgg-a0", {"depth": 3}, "depth"),
        ("repvgg-a0", {"num_classes": 0}, "at least 1"),
        ("no_such_module:Net", {}, "no module named 'no_such_module'"),
        ("own_networks:Nett", {}, "Did you mean 'Net'"),
        ("own_networks:", {}, "no ''"),
        (":Net", {}, "package.module:factory"),
        ("own_networks:number", {}, "of type int"),
        ("own_networks:not_a_network", {}, "returned int"),
        ("own_networks:without_classes", {"in_channels": 1}, "takes no 'in_channels'"),
        ("own_networks:Net", {"preset": "32px"}, "takes no 'preset'"),
        ("own_networks:Net", {"widht": 3}, "widht"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_reason(factories, name, arguments, message):
    with pytest.raises(RepFoldError, match=message):
        models.create(name, **arguments)


def test_an_error_inside_a_factory_is_not_disguised(factories):
    with pytest.raises(AttributeError, match="inside"):
        models.create(f"{factories}:broken")


def test_architecture_of_reads_back_the_arguments_of_create():
    network = models.create("repvgg-pico", num_classes=4, preset="32px", in_channels=1)
    assert models.architecture_of(network) == models.Architecture("repvgg-pico", 4, "32px", 1)
    assert models.architecture_of(nn.Linear(2, 2)) is None
