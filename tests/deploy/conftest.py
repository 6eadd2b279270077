"""A classifier that says how it sees images, and real photographs as a data set and as files of every kind."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from repfold import models

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"  # china.jpg and flower.jpg, 640x427


class Clock:
    """Seconds that pass only when told: in powers of two, so that differences are exact."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def let_pass(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock of the timings, in place of one that goes on while other programs have the cores."""
    clock = Clock()
    monkeypatch.setattr("repfold.deploy.bench.time", SimpleNamespace(perf_counter=clock.now))
    return clock


@pytest.fixture(scope="session")
def classifier() -> models.Model:
    """A small RepVGG of three classes, with the branches that it was given."""
    torch.manual_seed(0)
    network = models.create("repvgg-pico", num_classes=3).eval()
    network.head.weight.data *= 20  # so that probabilities differ from 1/3
    seen = models.Preprocessing(32, 36, (0.5, 0.45, 0.4), (0.25, 0.24, 0.23))
    description = models.Description(models.Architecture("repvgg-pico", 3), ("flower", "ship", "temple"), seen)
    return models.Model(network, description)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Folders of classes with pieces of both photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for part in ("train", "val"):
        for name, file in (("flower", "flower.jpg"), ("ship", "china.jpg"), ("temple", "china.jpg")):
            (folder / part / name).mkdir(parents=True)
            picture = Image.open(PHOTOS / file)
            for number in range(6):
                piece = picture.crop((60 * number, 20 * number, 60 * number + 180, 20 * number + 120))
                piece.save(folder / part / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[str]:
    """Photographs as people have them: whole, upright and turned by EXIF, gray, transparent, 16-bit, and small."""
    folder = tmp_path_factory.mktemp("pictures")
    shutil.copy(PHOTOS / "china.jpg", folder / "whole.jpg")
    photo = Image.open(PHOTOS / "flower.jpg")
    turned = photo.getexif()
    for orientation in (3, 6, 8):
        turned[0x0112] = orientation
        photo.crop((0, 0, 600, 250)).save(folder / f"turned{orientation}.jpg", exif=turned, quality=90)
    photo.convert("L").save(folder / "gray.jpg")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.quantize(32).save(folder / "palette.png")
    veiled = photo.crop((100, 50, 400, 350)).convert("RGBA")
    veiled.putalpha(photo.crop((100, 50, 400, 350)).convert("L"))
    veiled.save(folder / "veiled.png")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) << 8).save(folder / "deep.png")
    photo.resize((20, 45)).save(folder / "small.png")
    return sorted(str(path) for path in folder.iterdir())
