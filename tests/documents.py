"""Running what a document tells its reader to run: its commands and its Python, in order, in one directory."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from repfold.cli import main

# What a reader waits minutes for is cut short here; the command is otherwise as it stands.
SHORTER = {
    "--epochs 25 --warmup 5": "--epochs 2 --warmup 1",
    # Few images, and few rounds.
    "--recipe digits": "--recipe digits --per-class 20 5",
    "bench runs/demo": "bench runs/demo --rounds 2",
    "-o served": "-o served --engines onnxruntime repfold --rounds 2",
    # What follows a training is tried with the first.
    "--out runs/photos-1": "--out runs/photos-1 --no-finish",
    "--out runs/tuned": "--out runs/tuned --no-finish",
    "--out runs/queued": "--out runs/queued --no-finish",
    "repvgg-a0 --image-size 64": "repvgg-pico --image-size 16",
}
# Set up by make, or studies of hours.
SETS_UP = ("make ", "source ", "pip ", "python studies/", "python benchmarks/", "torchrun ")
YOUR_PACKAGE = """from torch import nn
network = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
).eval()
factory = lambda: network
"""


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), flags=re.DOTALL)


def commands(document: Path) -> list[str]:
    lines = [
        line[2:].split("  # ")[0].strip()
        for block in blocks(document, "console")
        for line in block.splitlines()
        if line[:2] == "$ "
    ]
    return [line for line in lines if not line.startswith(SETS_UP)]


def furnish(directory: Path) -> None:
    """Put there what documents speak of: a folder of photos, and a package with a network."""
    digits = load_digits()
    for name, label in (("circle", 0), ("line", 1)):
        for i, image in enumerate(digits.images[digits.target == label][:80]):
            file = directory / "photos" / ("val" if i < 10 else "train") / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15).astype("uint8")).resize((32, 32)).convert("RGB").save(file)
    (directory / "yourpackage.py").write_text(YOUR_PACKAGE)


def run(command: str, directory: Path) -> None:
    """Run a command in a process of its own, a fork of one that has imported what most commands need."""
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


def run_python(document: Path, directory: Path) -> None:
    """Run the document's Python as one program, begun in ``directory``."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(directory)}
    command = [sys.executable, "-c", "\n".join(blocks(document, "python"))]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
