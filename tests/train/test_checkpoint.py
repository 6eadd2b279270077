"""Checkpoints: whatever breaks, either the old or the new one is there, and damage is told."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
import torch
from torch import nn

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.train import checkpoint, train
from repfold.train.checkpoint import State

SCALER = torch.amp.GradScaler("cpu", enabled=False)


def parts(width: int = 4) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(width)
    network = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return network, optimizer


def test_everything_comes_back(tmp_path):
    network, optimizer = parts()
    state = State(1, 2, 0.1 + 0.2, 1.5, 0.25, 0.5, 1, 88.0, [{"epoch": 1, "lr": 0.1}])
    checkpoint.save(tmp_path / "c.pt", state, "epochs = 3\n", network, optimizer, SCALER)
    other, other_optimizer = parts()
    nn.init.zeros_(other[0].weight)
    content = checkpoint.read(tmp_path / "c.pt")
    assert checkpoint.restore(tmp_path / "c.pt", content, other, other_optimizer, SCALER) == state
    assert all(torch.equal(other.state_dict()[key], value) for key, value in network.state_dict().items())
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        momenta = optimizer.state[mine]["momentum_buffer"], other_optimizer.state[theirs]["momentum_buffer"]
        assert torch.equal(*momenta)


def test_the_settings_of_the_optimizer_stay_those_of_the_recipe(tmp_path):
    network, optimizer = parts()
    checkpoint.save(tmp_path / "c.pt", State(), "", network, optimizer, SCALER)
    other = torch.optim.SGD(network.parameters(), 0.5, momentum=0.8, weight_decay=0.01)
    checkpoint.restore(tmp_path / "c.pt", checkpoint.read(tmp_path / "c.pt"), network, other, SCALER)
    assert other.param_groups[0]["momentum"] == 0.8 and other.param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize("place", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_torn_file_is_told(tmp_path, place):
    path = tmp_path / "c.pt"
    checkpoint.save(path, State(), "", *parts(64), SCALER)
    content = path.read_bytes()
    path.write_bytes(content[: int(place * len(content))])
    with pytest.raises(RepFoldError, match=r"c\.pt cannot be read: .*Copy a good one back"):
        checkpoint.read(path)


def test_a_flipped_bit_in_a_weight_is_told(tmp_path):
    path = tmp_path / "c.pt"
    network, optimizer = parts(64)
    checkpoint.save(path, State(), "", network, optimizer, SCALER)
    content = bytearray(path.read_bytes())
    place = bytes(content).index(network[0].weight.detach().numpy().tobytes())
    content[place + 40] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RepFoldError, match="fails its checksum"):
        checkpoint.read(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"format": checkpoint.FORMAT, "state": Harm()}, tmp_path / "c.pt")
    with pytest.raises(RepFoldError, match="cannot be read"):
        checkpoint.read(tmp_path / "c.pt")
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_of_another_network_or_optimizer_is_told(tmp_path):
    checkpoint.save(tmp_path / "c.pt", State(), "", *parts(4), SCALER)
    content = checkpoint.read(tmp_path / "c.pt")
    with pytest.raises(
        RepFoldError,
        match=r"another network: its tensors differ: '0\.bias' is torch\.float32 \[4\], not torch\.float32 \[5\]",
    ):
        checkpoint.restore(tmp_path / "c.pt", content, *parts(5), SCALER)
    network, _ = parts(4)
    with pytest.raises(RepFoldError, match="of the optimizer SGD, but the recipe says AdamW"):
        checkpoint.restore(tmp_path / "c.pt", content, network, torch.optim.AdamW(network.parameters()), SCALER)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network, optimizer = parts()
    checkpoint.save(tmp_path / "c.pt", State(), "", network, optimizer, SCALER)
    good = (tmp_path / "c.pt").read_bytes()
    nn.init.constant_(network[0].weight, float("inf"))
    with pytest.raises(checkpoint.NotFiniteError, match=r"'0\.weight'"):
        checkpoint.save(tmp_path / "c.pt", State(), "", network, optimizer, SCALER)
    assert (tmp_path / "c.pt").read_bytes() == good


FULL_DISK = """
import pathlib, resource, signal, sys
from repfold.errors import RepFoldError
from repfold.train import recipe_file, train

directory = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    train(recipe_file.read(directory / "recipe.toml").replace(epochs=2), directory, resume=True, override=True)
except RepFoldError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_last_good_checkpoint(recipe, tmp_path):
    """The system refuses to let files grow beyond a limit, in the midst of a write, as it does when a disk is full."""
    train(recipe.replace(epochs=1), tmp_path)
    good = (tmp_path / run_files.CHECKPOINT).read_bytes()
    arguments = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(9 * len(good) // 10)]
    answer = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert "cannot be written" in answer.stdout and "last good checkpoint is kept" in answer.stdout, answer.stderr
    assert (tmp_path / run_files.CHECKPOINT).read_bytes() == good
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    assert checkpoint.read(tmp_path / run_files.CHECKPOINT)["state"]["epoch"] == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
