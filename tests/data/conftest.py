"""Image files and folders that the tests make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from tests.data.pictures import Write, picture


@pytest.fixture
def write_image() -> Write:
    """Write a smooth picture of (height, width) to a path; the format follows the suffix."""

    def write(path: Path, height: int = 20, width: int = 30, *, seed: int = 0, mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(height, width, seed)).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def write_folder(write_image: Write, tmp_path: Path) -> Write:
    """Write class folders of pictures under the parts named; sizes differ unless told."""

    def write(
        counts: dict[str, int],
        *,
        parts: Sequence[str] = ("train", "val"),
        size: tuple[int, int] | None = None,
        suffix: str = "png",
        name: str = "pets",
    ) -> Path:
        root = tmp_path / name
        seed = 0
        for part in parts:
            for label, count in counts.items():
                for number in range(count):
                    height, width = size or (20 + seed % 7, 24 + seed % 5)
                    write_image(root / part / label / f"{number:03}.{suffix}", height, width, seed=seed)
                    seed += 1
        return root

    return write
