"""The commands as a whole: overview, help, options in any order, versions, completion."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_predict import brightness_model

import repfold
from repfold.cli import main
from repfold.cli.commands import COMMANDS


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    try:
        main(list(words))
        found = 0
    except SystemExit as leaving:
        found = leaving.code or 0
    output = capsys.readouterr()
    assert found == code, output.err
    return output.out + output.err


def test_the_overview_needs_neither_torch_nor_the_parser():
    code = "import sys; from repfold.cli import main; main(['--help']); print(sys.modules.keys() & {'torch', 'tyro'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
    assert all(f"  {name} " in done.stdout for name in COMMANDS) and len(done.stdout.splitlines()) < 40
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_every_command_has_help_with_its_common_options_and_an_example_that_parses(capsys):
    for name, command in COMMANDS.items():
        help_text = said(capsys, name, "--help")
        assert command.example in help_text and command.example.startswith(f"repfold {name}")
        assert "None}" not in help_text and "None)" not in help_text and "--no-json" not in help_text, help_text
        assert inspect.getdoc(command.function(name))
    train = said(capsys, "train", "--help")
    groups = ["positional arguments", "options", "data options", "network options", "machine options"]
    found = [train.index(f" {title} ") for title in groups]
    assert found == sorted(found)
    assert train.index("--epochs") < train.index("--checkpoint-every")


@pytest.fixture
def place(tmp_path, monkeypatch):
    brightness_model(tmp_path, ("day", "night"))
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        "--json . a.png b.png c.png",
        ". --json a.png b.png c.png",
        ". a.png --top 1 b.png --json c.png",
        ". a.png b.png c.png --json",
    ],
)
def test_options_stand_anywhere_among_the_files(place, capsys, words):
    out = said(capsys, "predict", *words.split())
    assert [out.index(f'"{name}') for name in ("a.png", "b.png", "c.png")] == sorted(
        out.index(f'"{name}') for name in ("a.png", "b.png", "c.png")
    )


def test_what_is_no_option_is_told_with_the_nearest(place, capsys):
    assert "--top" in said(capsys, "predict", ".", "a.png", "--tob", "3", code=2)
    assert "Unrecognized" in said(capsys, "recipes", "digits", "--json", "warmup-none", code=2)


def test_versions_and_unknown_commands(capsys):
    assert said(capsys, "--version").startswith(f"repfold {repfold.__version__}, torch ")
    assert "Did you mean 'train'" in said(capsys, "trian", code=2)
    assert "repfold --help" in said(capsys, "--json", code=2)
    assert "usage: repfold" in said(capsys, code=2)


def test_a_shell_is_told_the_commands_and_options(capsys, tmp_path):
    script = said(capsys, "completion", "bash")
    assert "--image-size" in script and "find-lr" in script
    (tmp_path / "repfold").write_text(script)
    assert subprocess.run(["bash", "-n", str(tmp_path / "repfold")], check=False).returncode == 0
    assert "zsh" in said(capsys, "completion", "fish", code=2)
