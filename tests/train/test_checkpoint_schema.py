"""A checkpoint that holds something else is told in one message, whatever it is, before anything of it is used."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from repfold.errors import RepFoldError
from repfold.optim.averages import Average
from repfold.optim.lookahead import Lookahead
from repfold.train import checkpoint
from repfold.train.checkpoint import State, UnreadableError

SCALER = torch.amp.GradScaler("cpu", enabled=False)


def parts(lookahead: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return network, Lookahead(optimizer) if lookahead else optimizer


def saved(tmp_path, lookahead: bool = False):
    network, optimizer = parts(lookahead)
    state = State(1, 2, 0.1, 1.5, 0.25, 0.5, 1, 88.0, [{"epoch": 1}], "ab", torch.eye(3, dtype=torch.int32))
    path = tmp_path / "c.pt"
    checkpoint.save(path, state, "", network, optimizer, SCALER, Average(network))
    return path, checkpoint.read(path)


def change(content, place: str, value) -> None:
    *parents, last = place.split("/")
    for key in parents:
        content = content[int(key) if key.isdigit() else key]
    if value is None:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("format", "other", "not a checkpoint of this version"),
        ("recipe", 3, "its recipe is 3, not text"),
        ("network", {"weight": 1.0}, "its network is of the type dict, not tensors by name"),
        ("state", [1], "its state is of the type list, not a mapping"),
        ("state/epoch", -1, "its state.epoch is -1, not a whole number from 0"),
        ("state/step", 1.5, "its state.step is 1.5"),
        ("state/loss_sum", float("nan"), "its state.loss_sum is nan, not a finite number"),
        ("state/best_top1", None, "it has no state.best_top1"),
        ("state/surprise", 1, "it holds 'state.surprise', which no checkpoint of this version has"),
        ("state/records", [], "of 1 epoch done the best is .* has the records of 0"),
        ("state/records", [{"epoch": "one"}], "its state.records is of the type list, not a list of records"),
        ("state/best_confusion", torch.zeros(2, 3), "its state.best_confusion .* not a square matrix"),
        ("average", {"weights": {}}, "it has no average.updates"),
        ("optimizer", 7, "its optimizer is 7, not a mapping"),
        ("scaler", None, "it has no scaler"),
    ],
)
def test_what_is_not_as_it_must_be_is_named(tmp_path, place, value, told):
    path, content = saved(tmp_path)
    change(content, place, value)
    torch.save(content, path)
    with pytest.raises(UnreadableError, match=rf"c\.pt cannot be read: .*{told}.*Copy a good one back"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("lookahead", "place", "value", "told"),
    [
        (False, "optimizer/param_groups", [], "its optimizer.param_groups are not those"),
        (False, "optimizer/state", {99: {}}, "its optimizer.state has the entry 99, which is no parameter"),
        (
            False,
            "optimizer/state",
            {0: {"m": torch.zeros(9)}},
            r"state\[0\]\.m has the shape \[9\], and the .* \[4, 3\]",
        ),
        (True, "optimizer/slow", [torch.zeros(1)], "its optimizer.slow are not weights of this network"),
        (True, "optimizer/inner", {"state": {}}, "it has no optimizer.inner.param_groups"),
        (False, "average/weights", {"odd": torch.zeros(1)}, "its averaged tensors differ: .*is missing"),
        (False, "network", {"0.weight": torch.zeros(4, 3)}, "of another network: its tensors differ: .*is missing"),
    ],
)
def test_what_does_not_fit_the_network_changes_nothing_of_it(tmp_path, lookahead, place, value, told):
    path, content = saved(tmp_path, lookahead)
    change(content, place, value)
    network, optimizer = parts(lookahead)
    nn.init.ones_(network[0].weight)
    before = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(RepFoldError, match=told):
        checkpoint.restore(path, content, network, optimizer, SCALER, Average(network))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[0][name])
    assert str(optimizer.state_dict()) == str(before[1])


def test_a_checkpoint_of_before_there_were_seals_is_read(tmp_path):
    path, content = saved(tmp_path)
    for key in ("best_sha256", "best_confusion"):
        del content["state"][key]
    del content["surroundings"]
    torch.save(content, path)
    assert not checkpoint.is_sealed(path)
    assert State(**checkpoint.read(path)["state"]).best_sha256 == ""


def test_one_flipped_bit_anywhere_is_told(tmp_path):
    path, _ = saved(tmp_path)
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(UnreadableError, match="cannot be read"):
            checkpoint.read(path)
