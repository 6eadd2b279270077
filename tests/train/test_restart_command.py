"""The command that a stopped run goes on with is the one that was used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from repfold.train import Recipe, restart_command

TORCHRUN = ["/bin/python3", "/opt/bin/torchrun", "--nnodes", "2", "--nproc-per-node", "4", "-m", "repfold", "train"]
MODULE = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "repfold", "train"]


@pytest.fixture
def called(monkeypatch):
    def call(*words: str, launcher: list[str] | None = None) -> str:
        monkeypatch.setattr(sys, "argv", ["/somewhere/repfold/__main__.py", *words])
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "repfold", *words])
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        if launcher is not None:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
            monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
            monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
            monkeypatch.setattr(restart_command, "_command_of", lambda pid: launcher)
        return restart_command.to_resume(Path("runs/my run"), Recipe())

    return call


@pytest.mark.parametrize(
    ("words", "launcher", "expected"),
    [
        (["train", "my photos"], None, "python -m repfold train 'my photos' --out 'runs/my run' --resume"),
        (["train", "a", "--out", "b"], None, "python -m repfold train a --out b --resume"),
        (["train", "a", "-o", "b", "--resume"], None, "python -m repfold train a -o b --resume"),
        (["train", "a", "--out=b", "--resume", "auto"], None, "python -m repfold train a --out=b --resume auto"),
        (["demo"], None, "repfold train --resume --out 'runs/my run'"),
        (["train", "a", "--out", "b"], [], "torchrun --nproc-per-node 2 -m repfold train a --out b --resume"),
        (
            ["train", "--out", "b"],
            TORCHRUN,
            "torchrun --nnodes 2 --nproc-per-node 4 -m repfold train --out b --resume",
        ),
        (
            ["train", "--out", "b"],
            MODULE,
            "python -m torch.distributed.run --standalone --nproc-per-node=2 -m repfold train --out b --resume",
        ),
    ],
)
def test_the_command_is_quoted_with_its_launcher(called, words, launcher, expected):
    assert called(*words, launcher=launcher) == expected


def test_a_program_of_ones_own_is_told_the_commands_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["my_training.py", "train"])
    assert restart_command.to_resume(Path("x"), Recipe()) == "repfold train --resume --out x"
    own = Recipe(model="mine:net")
    assert restart_command.to_resume(Path("x"), own) == "repfold train --resume --out x --trust"
