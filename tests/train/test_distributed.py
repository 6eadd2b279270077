"""Two processes under torchrun do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import repfold
from repfold import run_files
from repfold.errors import RepFoldError
from repfold.train import train
from repfold.train.distributed import Ranks
from repfold.train.events import Note

FACTORY = """
from torch import nn

def net(num_classes=10, in_channels=1):
    def stage(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.GroupNorm(2, o), nn.ReLU())
    return nn.Sequential(stage(in_channels, 8), stage(8, 16), nn.Flatten(), nn.Linear(64, num_classes))
"""
SCALARS = ("train_loss", "val_loss")
COUNTS = ("train_top1", "val_top1", "val_top5", "val_precision", "val_recall")


def torchrun(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    return subprocess.run(
        [*command, "-m", "repfold", "train", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=directory,
        env=environment,
    )


def flags(recipe) -> list[str]:
    shown = ("model", "preset", "epochs", "batch", "lr", "warmup", "augment", "precision", "threads", "device")
    words = [word for name in shown for word in (f"--{name}", str(getattr(recipe, name)))]
    return [recipe.data, *words, "--per-class", *map(str, recipe.per_class), "--no-finish"]


@pytest.fixture
def group_norm(recipe, tmp_path, monkeypatch):
    (tmp_path / "group_norm_factory.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "group_norm_factory", raising=False)
    return recipe.replace(model="group_norm_factory:net", preset="imagenet", batch=20)


def test_two_processes_have_the_losses_of_one_and_count_every_image_once(group_norm, tmp_path):
    # 50 validation images in batches of 20: the last batch of each process is smaller than the others.
    alone = train(group_norm, tmp_path / "alone").records
    answer = torchrun(*flags(group_norm), "--out", str(tmp_path / "together"), directory=tmp_path)
    assert answer.returncode == 0, answer.stderr
    together = [json.loads(line) for line in (tmp_path / "together" / run_files.RECORD).read_text().splitlines()]
    assert len(together) == 2
    for one, other in zip(alone, together, strict=True):
        assert [one[key] for key in SCALARS] == pytest.approx([other[key] for key in SCALARS], rel=1e-5)
        assert [one[key] for key in COUNTS] == pytest.approx([other[key] for key in COUNTS])
    first, second = (repfold.models.load_model(tmp_path / name, trust=True).network for name in ("alone", "together"))
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert json.loads((tmp_path / "together" / run_files.ENVIRONMENT).read_text())["processes"] == 2
    confusion = json.loads((tmp_path / "together" / run_files.CONFUSION).read_text())["matrix_TP"]
    assert [sum(row) for row in confusion] == [5] * 10


def test_batch_norm_on_cpus_is_told_to_be_per_process_and_the_run_goes_on(recipe, tmp_path):
    one = recipe.replace(epochs=1)
    answer = torchrun(*flags(one), "--out", str(tmp_path / "run"), directory=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("BatchNorm statistics are per process on CPUs") == 1
    assert answer.stdout.count("1/1") == 1, "one process reports"
    notes: list[str] = []
    # One process goes on where two stopped.
    train(
        one.replace(epochs=2),
        tmp_path / "run",
        resume=True,
        override=True,
        on_event=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )
    assert not any("per process" in note for note in notes)
    assert len((tmp_path / "run" / run_files.RECORD).read_text().splitlines()) == 2


def test_a_refusal_of_one_process_ends_all(monkeypatch):
    monkeypatch.setattr(Ranks, "total", lambda ranks, values: [1.0])
    with pytest.raises(RepFoldError, match="Another process of this run cannot go on"), Ranks(1, 2).together():
        pass
    with pytest.raises(RepFoldError, match="the lock"), Ranks(0, 2).together():
        raise RepFoldError("the lock")
