"""Crop boxes against a plain scalar reading of the definition, resampling against Pillow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from repfold.data.crops import (
    ATTEMPTS,
    UNIFORMS_PER_BOX,
    CropSettings,
    Framing,
    centre_boxes,
    cut,
    framing_of,
    random_boxes,
    resample,
)
from repfold.errors import RepFoldError

sides = st.integers(1, 400)


def scalar_box(height: int, width: int, uniforms: np.ndarray, settings: CropSettings) -> tuple[int, int, int, int]:
    """The definition, one attempt after the other (Szegedy et al. 2015, as PyTorch's vision library words it)."""
    for attempt in range(ATTEMPTS):
        low, high = settings.scale
        area = height * width * (low + uniforms[attempt] * (high - low))
        log_low, log_high = (math.log(bound) for bound in settings.ratio)
        ratio = math.exp(log_low + uniforms[ATTEMPTS + attempt] * (log_high - log_low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return (int(uniforms[-2] * (height - h + 1)), int(uniforms[-1] * (width - w + 1)), h, w)
    w, h = width, height
    if width / height < settings.ratio[0]:
        h = max(1, round(w / settings.ratio[0]))
    elif width / height > settings.ratio[1]:
        w = max(1, round(h * settings.ratio[1]))
    return ((height - h) // 2, (width - w) // 2, h, w)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_random_boxes_follow_the_definition(sizes: list[tuple[int, int]], seed: int) -> None:
    settings = CropSettings()
    uniforms = np.random.default_rng(seed).random((len(sizes), UNIFORMS_PER_BOX))
    boxes = random_boxes(np.array(sizes), uniforms, settings)
    for (height, width), drawn, box in zip(sizes, uniforms, boxes, strict=True):
        assert tuple(box) == scalar_box(height, width, drawn, settings)
        top, left, h, w = box
        assert top >= 0 and left >= 0 and h >= 1 and w >= 1
        assert top + h <= height and left + w <= width


def test_random_boxes_cover_scales_and_ratios() -> None:
    count = 4000
    uniforms = np.random.default_rng(0).random((count, UNIFORMS_PER_BOX))
    boxes = random_boxes(np.full((count, 2), 200), uniforms, CropSettings(scale=(0.25, 0.5), ratio=(0.5, 2.0)))
    area, ratio = boxes[:, 2] * boxes[:, 3] / 200**2, boxes[:, 3] / boxes[:, 2]
    assert 0.24 < area.min() < 0.26 and 0.49 < area.max() < 0.51
    assert abs(area.mean() - 0.375) < 0.01
    assert 0.49 < ratio.min() < 0.55 and 1.8 < ratio.max() < 2.05
    assert abs(np.log(ratio).mean()) < 0.03  # log-uniform: as many wide as tall
    assert boxes[:, 0].min() == 0 and (boxes[:, 0] + boxes[:, 2]).max() == 200


@given(sides, sides, st.integers(1, 300), st.integers(0, 100))
def test_centre_boxes_are_central_squares(height: int, width: int, image_size: int, more: int) -> None:
    top, left, h, w = centre_boxes(np.array([[height, width]]), image_size, image_size + more)[0]
    assert h == w >= 1
    assert abs(h - min(height, width) * image_size / (image_size + more)) <= 0.5 or h == 1
    assert 0 <= top <= height - h and 0 <= left <= width - w
    assert abs((height - h) / 2 - top) <= 0.5 and abs((width - w) / 2 - left) <= 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(7, 9), (40, 31), (16, 16), (90, 64)])
@pytest.mark.parametrize("side", [8, 16, 32])
def test_resample_is_pillows_to_one_level(height: int, width: int, side: int, channels: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    expected = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)).reshape(side, side, channels)
    resampled = resample(pixels, side, side)
    assert resampled.shape == (side, side, channels)
    assert np.abs(resampled.astype(int) - expected).max() <= 1
    # The check can fail: without antialiasing a reduced picture differs by far more.
    if side < min(height, width) / 2:
        nearest = np.asarray(image.resize((side, side), Image.Resampling.NEAREST)).reshape(side, side, channels)
        assert np.abs(nearest.astype(int) - expected).max() > 20


def test_cut_takes_the_box_and_copies_exact_sizes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(cut(pixels, np.array([3, 5, 8, 8]), 8), pixels[3:11, 5:13])
    assert np.array_equal(cut(pixels, np.array([3, 5, 10, 12]), 8), resample(pixels[3:13, 5:17], 8, 8))


def test_settings_explain_themselves() -> None:
    assert CropSettings("padded").padding_pixels(32) == 4
    assert CropSettings("resized").padding_pixels(32) == 0
    assert CropSettings(scale=(0.25, 1)).working_side(128) == 256
    for wrong in ({"kind": "round"}, {"scale": (0, 1)}, {"scale": (0.5, 0.2)}, {"ratio": (2, 1)}, {"padding": 1.5}):
        with pytest.raises(RepFoldError):
            CropSettings(**wrong)  # type: ignore[arg-type]


def test_the_framing_follows_from_the_pictures() -> None:
    small, large = np.array([[32, 32], [32, 32]]), np.array([[300, 400], [500, 300]])
    assert framing_of(small, gray=True) == Framing(32, 32, 1, CropSettings("padded"))
    assert framing_of(large, gray=False) == Framing(224, 256, 3, CropSettings("resized"))
    assert framing_of(large, gray=True, image_size=64, channels=3) == Framing(64, 73, 3, CropSettings("resized"))
    with pytest.raises(RepFoldError, match="No image is left"):
        framing_of(large[:0], gray=False)
