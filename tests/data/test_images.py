"""Reading one file: every mode ends as upright 8-bit pixels, and broken files are named with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from repfold.data.images import BrokenImageError, read_header, read_image
from repfold.errors import RepFoldError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)

# EXIF 2.32, tag 0x0112: what the stored pixels need to stand upright.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("1", "png"), ("RGB", "png"), ("P", "png"), ("P", "gif"), ("RGBA", "png"), ("LA", "png"),
     ("CMYK", "jpg"), ("CMYK", "tif"), ("L", "jpg"), ("RGB", "webp"), ("RGB", "bmp")],
)  # fmt: skip
def test_any_mode_becomes_the_channels_asked_for(tmp_path: Path, mode: str, suffix: str, channels: int) -> None:
    gray = Image.fromarray(np.repeat(np.repeat(RAMP, 4, 0), 4, 1)).convert("RGB")
    path = save(gray.convert(mode), tmp_path / f"ramp.{suffix}")
    pixels = read_image(path, channels)
    assert pixels.shape == (64, 64, channels)
    assert pixels.dtype == np.uint8
    expected = np.asarray(gray.convert(mode).convert("L"), dtype=int)
    tolerance = 8 if suffix in ("jpg", "webp", "gif") else 2
    assert np.abs(pixels.mean(axis=2) - expected).mean() <= tolerance
    assert read_header(path).height == 64


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = save(Image.fromarray(stored), tmp_path / f"turned.{suffix}", exif=exif, lossless=True)
    expected = UPRIGHT[orientation](stored)
    assert np.array_equal(read_image(path), expected)
    header = read_header(path)
    assert (header.height, header.width) == expected.shape[:2]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = (RAMP.astype(np.uint16) << 8) + 77
    path = save(Image.fromarray(values), tmp_path / f"deep.{suffix}")
    assert np.array_equal(read_image(path, 1)[..., 0], RAMP)
    assert read_header(path).gray


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP.astype(np.int32), RAMP),
        (RAMP.astype(np.int32) * 257, RAMP),
        (RAMP.astype(np.float32), RAMP),
        (RAMP.astype(np.float32) / 255, RAMP),
        (np.where(RAMP == 3, np.nan, RAMP).astype(np.float32), np.where(RAMP == 3, 0, RAMP)),
    ],
)
def test_wide_tiff_values_are_brought_to_eight_bits(tmp_path: Path, values: np.ndarray, expected: np.ndarray) -> None:
    path = save(Image.fromarray(values), tmp_path / "wide.tif")
    assert np.array_equal(read_image(path, 1)[..., 0], expected)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:2, :, 3] = 255  # the upper half is opaque black, the lower transparent black
    seen = read_image(save(Image.fromarray(pixels), tmp_path / "half.png"))
    assert (seen[:2] == 0).all()
    assert (seen[2:] == 255).all()
    palette = Image.fromarray(pixels[..., 3]).convert("P")
    seen = read_image(save(palette, tmp_path / "palette.png", transparency=0), 1)
    assert (seen == 255).all()


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    first, second = Image.new("L", (6, 4), 200), Image.new("L", (6, 4), 10)
    path = save(first, tmp_path / "moving.gif", save_all=True, append_images=[second])
    assert (read_image(path, 1) == 200).all()


def test_a_large_jpeg_is_decoded_smaller_but_never_below_the_short_side(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (640, 480), (10, 200, 30)), tmp_path / "large.jpg")
    reduced = read_image(path, short_side=100)
    assert 100 <= min(reduced.shape[:2]) < 480
    assert np.abs(reduced.astype(int) - (10, 200, 30)).max() <= 4
    assert read_image(path).shape == (480, 640, 3)
    assert read_image(path, short_side=480).shape == (480, 640, 3)


def jpeg_bytes(tmp_path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return save(Image.fromarray(noise), tmp_path / "whole.jpg").read_bytes()


@pytest.mark.parametrize("read", [read_image, read_header])
def test_broken_files_are_named_with_the_reason(tmp_path: Path, read: object) -> None:
    whole = jpeg_bytes(tmp_path)
    contents = {"empty": b"", "not an image": b"hello" * 40, "truncated": whole[: len(whole) // 2]}
    for reason, content in contents.items():
        path = tmp_path / "photo.jpg"
        path.write_bytes(content)
        with pytest.raises(BrokenImageError, match=reason) as caught:
            read(path)  # type: ignore[operator]
        assert caught.value.path == path
        assert isinstance(caught.value, RepFoldError)
    with pytest.raises(BrokenImageError, match=r"missing\.png: no such file"):
        read(tmp_path / "missing.png")  # type: ignore[operator]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_png_is_found_by_its_header_check(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / "cut.png")
    read_header(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BrokenImageError):
        read_header(path)


def test_a_whole_jpeg_with_bytes_after_its_end_is_no_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "trailing.jpg"
    path.write_bytes(jpeg_bytes(tmp_path) + b"\0" * 500)
    assert read_header(path).width == 64


@pytest.mark.parametrize("read", [read_image, read_header])
def test_too_many_open_files_break_no_image(tmp_path: Path, read: Callable[[Path], object]) -> None:
    resource = pytest.importorskip("resource")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            read(tmp_path / "a.png")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isinstance(caught.value, BrokenImageError)
