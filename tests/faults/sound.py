"""Things that are as they should be: a folder of images, a run with all of its files, data sets, other files."""

from __future__ import annotations

import gzip
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

QUICK = "--model repvgg-pico --preset 32px --epochs 1 --batch 4 --threads 1 --image-size 16 --device cpu".split()
PICTURES = ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm")


def make(place: Path) -> None:
    """Make everything in ``place``; the run takes some seconds."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for label in ("dark", "light"):
            for number in range(count):
                _picture(place / "images" / part / label / f"{number}.{PICTURES[number % 2]}", draw)
    for suffix in PICTURES:
        _picture(place / f"picture.{suffix}", draw)
    _idx(place / "idx", draw)
    _cifar(place / "cifar", draw)
    (place / "study.toml").write_text(STUDY)
    command = [sys.executable, "-m", "repfold", "train", "images", *QUICK, "--out", "run"]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    for name in ("plain.safetensors", "model.onnx", "checkpoint.pt"):
        shutil.copy(place / "run" / name, place / name)


STUDY = """name = "quick"
recipe = "digits"
seeds = [0, 1]
reference = "none"
metric = "val_top1"
[settings]
per_class = [4, 4]
epochs = 1
[arms.none]
warmup = "0"
[arms.half]
warmup = "50%"
"""


def _picture(path: Path, draw: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


def _idx(folder: Path, draw: np.random.Generator) -> None:
    folder.mkdir()
    for part, count in (("train", 20), ("t10k", 10)):
        pixels, labels = draw.integers(0, 256, (count, 8, 8), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 2
        images = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 8, 8) + pixels.tobytes()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, count) + labels.tobytes())


def _cifar(folder: Path, draw: np.random.Generator) -> None:
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {b"data": draw.integers(0, 256, (4, 3072), dtype=np.uint8), b"labels": [0, 1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"%d" % c for c in range(10)]}, protocol=2))
