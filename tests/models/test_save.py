"""save: any network comes back as the function that it is, and what would not is not saved."""

from __future__ import annotations

import collections
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import repfold
from repfold import models
from repfold.errors import RepFoldError
from repfold.models import graph


def returned(network: nn.Module, path, **keywords) -> nn.Module:
    repfold.save(network, path, **keywords)
    return repfold.load(path)


class Everything(nn.Module):
    """What a forward may do with its input, its parameters and its sizes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("offset", torch.rand(4, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect", bias=False)
        self.shared = nn.BatchNorm2d(4, eps=1e-3, momentum=None)
        self.inner = nn.ModuleDict({"0": nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.LeakyReLU(0.3))})
        self.drop = nn.Dropout(0.3)

    def forward(self, x, scale_by=2.0):
        x = self.shared(self.shared(self.conv(x)))
        x = self.inner["0"](x) * self.scale + self.offset
        n, c = x.shape[0], x.size(1)
        first, second = x.view(n, c, -1).reshape(x.shape).chunk(2, dim=1)
        y = torch.cat([first[:, :, ::2, 1:], F.relu(second)[..., ::2, 1:]], dim=1) / scale_by
        y = F.pad(y, (1, 0, 2, 1), value=float("-inf")).clamp(min=-3.0).to(torch.float64)
        y = F.max_pool2d(y, 2, stride=(1, 2)) + x.mean((2, 3), keepdim=True)
        return {"logits": self.drop(torch.flatten(y, 1)), "by": scale_by, "label": [y.sum((2, 3)).argmax(1)]}


def test_every_kind_of_operator_comes_back_exact(tmp_path):
    network = Everything().eval()
    network.offset.add_(1)
    network.scale.requires_grad_(False)
    loaded = returned(network, tmp_path / "net.safetensors")
    for shape in ((2, 3, 8, 10), (1, 3, 33, 17)):
        x = torch.rand(shape)
        ours, theirs = loaded(x), network(x)
        assert torch.equal(ours["logits"], theirs["logits"]) and torch.equal(ours["label"][0], theirs["label"][0])
        assert ours["by"] == 2.0
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert isinstance(loaded.scale, nn.Parameter) and not isinstance(loaded.offset, nn.Parameter)
    assert not loaded.scale.requires_grad and loaded.conv.weight.requires_grad
    assert isinstance(loaded.shared, nn.BatchNorm2d) and loaded.shared.momentum is None
    dropouts = [module for module in loaded.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in dropouts] == [0.3]
    again = returned(copy.deepcopy(loaded), tmp_path / "again.safetensors")
    assert torch.equal(again(x)["logits"], theirs["logits"])


@pytest.mark.parametrize("block", ["dbb", "mobileone"])
def test_an_expanded_network_comes_back(tmp_path, block):
    network = models.create("vgg-pico", num_classes=3, preset="32px").eval()
    expanded = repfold.expand(network, block)
    loaded = returned(expanded, tmp_path / "net.safetensors")
    x = torch.rand(2, 3, 32, 40)
    assert torch.equal(loaded(x), expanded(x))
    assert loaded.state_dict().keys() == expanded.state_dict().keys()


def folded() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    return repfold.fold(network, torch.rand(2, 3, 8, 8))[0]


def test_a_folded_network_is_written_as_the_graph_that_it_carries(tmp_path, monkeypatch):
    network = folded()
    monkeypatch.setattr(graph, "record", None)
    loaded = returned(network, tmp_path / "net.safetensors")
    x = torch.rand(3, 3, 9, 12)
    assert torch.equal(loaded(x), network(x))
    assert [type(layer) for layer in loaded.children()] == [nn.Conv2d, nn.Conv2d]
    assert models.read_description(tmp_path / "net.safetensors").form == "folded"


def replace_layer(network: nn.Module) -> nn.Module:
    network.set_submodule("3", nn.Conv2d(4, 7, 1))
    return network


def grow_a_block(network: nn.Module) -> nn.Module:
    """Its tensors have the same paths and shapes, but it computes something else."""

    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = Doubled(4, 2, 1)
    layer.load_state_dict(network.get_submodule("3").state_dict())
    network.set_submodule("3", layer)
    return network


@pytest.mark.parametrize("change", [replace_layer, grow_a_block, nn.Module.double, nn.Module.bfloat16])
def test_a_folded_network_that_was_changed_is_recorded_anew(tmp_path, change):
    network = change(folded()).eval()
    loaded = returned(network, tmp_path / "net.safetensors")
    x = torch.rand(3, 3, 9, 12, dtype=next(network.parameters()).dtype)
    assert torch.equal(loaded(x), network(x))


def test_what_would_load_as_something_else_is_not_saved(tmp_path, monkeypatch):
    path, network = tmp_path / "net.safetensors", nn.Sequential(nn.Linear(3, 3)).eval()
    repfold.save(network, path)
    good, build = path.read_bytes(), graph.from_json

    def wrong(content, tensors):
        return build(content, {key: tensor * 1.01 for key, tensor in tensors.items()})

    monkeypatch.setattr(graph, "from_json", wrong)
    with pytest.raises(RepFoldError, match="computes something else"):
        repfold.save(network, path)
    assert path.read_bytes() == good and [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_network_of_models_is_proved_too(tmp_path):
    network = models.create("vgg-pico", num_classes=3, preset="32px").eval()
    network.register_forward_hook(lambda module, arguments, output: -output)
    with pytest.raises(RepFoldError, match="computes something else"):
        repfold.save(network, tmp_path / "net.safetensors")


def test_tied_weights_stay_tied(tmp_path):
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).eval()
    network[1].weight = network[0].weight
    loaded = returned(network, tmp_path / "net.safetensors")
    x = torch.rand(2, 4)
    assert torch.equal(loaded(x), network(x)) and len(list(loaded.parameters())) == 1


def test_the_example_is_found_or_asked_for(tmp_path):
    digits = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(2 * 24 * 24, 10)).eval()
    assert returned(digits, tmp_path / "digits.safetensors")(torch.rand(1, 1, 28, 28)).shape == (1, 10)
    odd = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(2 * 19 * 24, 10)).eval()
    with pytest.raises(RepFoldError, match=r"save\(\.\.\., example=\.\.\.\)"):
        repfold.save(odd, tmp_path / "odd.safetensors")
    loaded = returned(odd, tmp_path / "odd.safetensors", example=torch.rand(2, 1, 23, 28))
    assert loaded(torch.rand(1, 1, 23, 28)).shape == (1, 10)


Pair = collections.namedtuple("Pair", "a b")


class ReturnsPair(nn.Module):
    def forward(self, x):
        return Pair(x, -x)


class Sorts(nn.Module):
    def forward(self, x):
        return torch.linalg.qr(x)[0]


@pytest.mark.parametrize(("network", "message"), [(ReturnsPair(), "Pair"), (Sorts(), r"aten\.linalg_qr")])
def test_what_a_file_cannot_hold_is_named_and_an_export_suggested(tmp_path, network, message):
    with pytest.raises(RepFoldError, match=message) as caught:
        repfold.save(network.eval(), tmp_path / "net.safetensors", example=torch.rand(3, 3))
    assert ".pt2" in str(caught.value)


def test_dropout_that_is_always_on_is_not_saved(tmp_path):
    class Noisy(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=True)

    with pytest.raises(RepFoldError, match="computes something else"):
        repfold.save(Noisy().eval(), tmp_path / "net.safetensors", example=torch.rand(8, 8))


class WithSpare(nn.Module):
    """A head that only training reads, or that nothing reads any more."""

    def __init__(self, read: bool) -> None:
        super().__init__()
        self.body, self.head, self.spare = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Linear(4, 5)
        self.read = read

    def forward(self, x):
        y = self.body(x).mean((2, 3))
        return (self.head(y), self.spare(y)) if self.training and self.read else self.head(y)


def test_what_nothing_reads_is_left_out(tmp_path):
    network, x = WithSpare(read=False).eval(), torch.randn(2, 3, 8, 8)
    loaded = returned(network, tmp_path / "net.safetensors", example=x)
    assert torch.equal(loaded(x), network(x)) and not any("spare" in path for path in loaded.state_dict())
    assert network.spare.training is False


def test_what_training_reads_is_not_lost(tmp_path):
    with pytest.raises(RepFoldError, match=r"'spare\.weight' is used only in training"):
        repfold.save(WithSpare(read=True).eval(), tmp_path / "net.safetensors", example=torch.randn(2, 3, 8, 8))
    assert not list(tmp_path.iterdir())
