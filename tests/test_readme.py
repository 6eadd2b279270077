"""The README's commands and Python run, in order, from an empty directory, on small data in place of the user's."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from repfold.cli import main

README = Path(__file__).parent.parent / "README.md"
# What a reader waits minutes for is cut short here; the command is otherwise as it stands.
SHORTER = {
    "--epochs 25 --warmup 5": "--epochs 2 --warmup 1",
    "-o served": "-o served --engines onnxruntime repfold --rounds 2",
    "repvgg-a0 --image-size 64": "repvgg-pico --image-size 16",
}
# Set up by make, or studies of hours.
SETS_UP = ("make ", "source ", "pip ", "python studies/", "python benchmarks/", "torchrun ")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


def commands() -> list[str]:
    lines = [
        line[2:].split("  # ")[0].strip()
        for block in blocks("console")
        for line in block.splitlines()
        if line[:2] == "$ "
    ]
    return [line for line in lines if not line.startswith(SETS_UP)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory with the photos that the README speaks of, and a run of the demo's kind."""
    directory = tmp_path_factory.mktemp("readme")
    digits = load_digits()
    for name, label in (("circle", 0), ("line", 1)):
        for i, image in enumerate(digits.images[digits.target == label][:80]):
            file = directory / "photos" / ("val" if i < 10 else "train") / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15).astype("uint8")).resize((32, 32)).convert("RGB").save(file)
    run("repfold train digits --recipe digits --epochs 3 --out runs/demo", directory)
    return directory


def run(command: str, directory: Path) -> None:
    """Run a command of the README in a process of its own, a fork of one that has imported what most commands need."""
    for long, short in SHORTER.items():
        command = command.replace(long, short)
    words = [str(word) for word in shlex.split(command)]
    assert words[0] == "repfold", command
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["repfold.cli", "repfold.train", "repfold.report", "repfold.deploy", "onnxscript"])
    output = directory / "output.txt"
    process = forks.Process(target=command_line, args=(words[1:], directory, output))
    process.start()
    process.join()
    assert process.exitcode == 0, f"{command}\n{output.read_text()[-5000:]}"


def command_line(arguments: list[str], directory: Path, output: Path) -> None:
    """What ``repfold ARGUMENTS`` does, begun in ``directory``, with what it prints in the file ``output``."""
    os.chdir(directory)
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(directory))
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    main(arguments)


def test_the_readme_has_commands():
    assert len(commands()) >= 5


def test_the_commands_run(place):
    for command in commands():
        run(command, place)


def test_the_python_runs(place):
    layers = "nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()"
    (place / "yourpackage.py").write_text(f"from torch import nn\nnetwork = nn.Sequential({layers}).eval()\n")
    code = "\n".join(blocks("python"))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(place)}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_links_and_pictures_exist():
    for page in (README, README.parent / "ARCHITECTURE.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
