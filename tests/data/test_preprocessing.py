"""A single file is seen exactly as evaluation sees it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from tests.data.pictures import Write

from repfold.data import BrokenImageError, DataSettings, open_source, preprocess


@dataclass(frozen=True)
class Preprocessing:
    image_size: int
    resize: int
    channels: int


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("size", [(300, 200), (40, 60)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_gives_the_pixels_of_the_validation_batch(
    write_folder: Write, suffix: str, size: tuple[int, int], channels: int
) -> None:
    root = write_folder({"a": 2, "b": 2}, suffix=suffix, size=size)
    source = open_source(DataSettings(root, image_size=32, resize=36, channels=channels))
    batch = next(source.loader("val", 4, train=False).epoch(0))
    files = sorted((root / "val").glob("*/*"))
    for file, seen in zip(files, batch.x_NCHW, strict=True):
        alone = preprocess(file, Preprocessing(32, 36, channels))
        assert alone.shape == (channels, 32, 32) and alone.dtype == torch.uint8
        assert torch.equal(alone, seen)


def test_what_is_no_image_is_named(tmp_path: object) -> None:
    with pytest.raises(BrokenImageError, match=r"cat\.jpg: no such file"):
        preprocess(f"{tmp_path}/cat.jpg", Preprocessing(32, 36, 3))
