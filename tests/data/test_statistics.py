"""Channel statistics against the definition in float64."""

from __future__ import annotations

import numpy as np
import pytest

from repfold.data import channel_statistics, in_memory


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_mean_and_deviation_of_all_pixels(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 7, 5, channels), dtype=np.uint8)
    pixels[..., 0] //= 3
    mean, deviation = channel_statistics(in_memory(pixels, np.zeros(20)))
    assert mean == pytest.approx((pixels / 255).mean(axis=(0, 1, 2)), abs=1e-12)
    assert deviation == pytest.approx((pixels / 255).std(axis=(0, 1, 2)), abs=1e-9)


def test_images_of_any_size_weigh_the_same() -> None:
    mean, _ = channel_statistics(
        in_memory([np.zeros((2, 2, 1), np.uint8), np.full((9, 9, 1), 255, np.uint8)], np.zeros(2))
    )
    assert mean == pytest.approx((0.5,))


def test_a_constant_channel_can_be_divided_by() -> None:
    mean, deviation = channel_statistics(in_memory(np.full((4, 3, 3, 1), 51, np.uint8), np.zeros(4)))
    assert mean == pytest.approx((0.2,))
    assert deviation == (1.0,)


def test_a_sample_is_seeded_and_close() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 6, 6, 1), dtype=np.uint8)
    images = in_memory(pixels, np.zeros(500))
    sampled = channel_statistics(images, sample=100, seed=1)
    assert sampled == channel_statistics(images, sample=100, seed=1)
    assert sampled != channel_statistics(images, sample=100, seed=2)
    assert sampled[0] == pytest.approx(channel_statistics(images)[0], abs=0.02)
