"""Whole-batch transforms against loops over single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repfold.data import batch_generator
from repfold.data.augment.geometry import Crop, Flip
from repfold.data.transforms import to_input

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def pixels(count: int = 12, side: int = 9, channels: int = 3) -> torch.Tensor:
    values = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_to_input_is_the_definition(dtype: torch.dtype, channels_last: bool) -> None:
    x = pixels()
    expected = (x.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    result = to_input(x, MEAN, STD, dtype=dtype, channels_last=channels_last)
    assert result.dtype == dtype
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert result.is_contiguous(memory_format=layout)
    assert (result.double() - expected).abs().max() < (2e-2 if dtype == torch.bfloat16 else 1e-5)
    assert x.dtype == torch.uint8 and torch.equal(x, pixels())


def test_flip_mirrors_some_images_and_no_other_way() -> None:
    x = pixels(400, 4)
    flipped = Flip()(x, batch_generator(0, 1, 2))
    mirrored = [torch.equal(after, before.flip(2)) for before, after in zip(x, flipped, strict=True)]
    kept = [torch.equal(after, before) for before, after in zip(x, flipped, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250
    assert torch.equal(Flip(0.0)(x, batch_generator(0, 1, 2)), x)
    assert torch.equal(Flip(1.0)(x, batch_generator(0, 1, 2)), x.flip(3))


@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_is_some_window_of_the_padded_image(reflect: bool, channels: int) -> None:
    padding, side = 2, 9
    x = pixels(300, side, channels)
    mode = "reflect" if reflect else "constant"
    padded = torch.nn.functional.pad(x.float(), [padding] * 4, mode=mode).byte()
    cropped = Crop(padding / side, mode)(x, batch_generator(0, 0, 0))
    assert cropped.shape == x.shape and cropped.dtype == torch.uint8
    offsets = []
    for window, image in zip(cropped, padded, strict=True):
        matches = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if torch.equal(image[:, top : top + side, left : left + side], window)
        ]
        assert matches
        offsets.append(matches[0])
    assert len(set(offsets)) == 25  # every offset occurs
    assert torch.equal(Crop(0.0)(x, batch_generator(0, 0, 0)), x)


def test_a_crop_as_wide_as_the_image_still_reads_inside_it() -> None:
    x = pixels(8, 3)
    cropped = Crop(0.99, "reflect")(x, batch_generator(0, 0, 0))
    assert set(cropped.unique().tolist()) <= set(x.unique().tolist())


@pytest.mark.parametrize("transform", [Flip(), Crop(1 / 3, "reflect")])
def test_shares_of_a_batch_get_what_the_whole_batch_would(transform: object) -> None:
    x = pixels(12)
    whole = transform(x, batch_generator(3, 4, 5))  # type: ignore[operator]
    for first in range(0, 12, 4):
        share = transform(x[first : first + 4], batch_generator(3, 4, 5), first=first, total=12)  # type: ignore[operator]
        assert torch.equal(share, whole[first : first + 4])
    assert torch.equal(transform(x, batch_generator(3, 4, 5)), whole)  # type: ignore[operator]


def test_generators_differ_by_each_of_their_numbers() -> None:
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0)]
    assert len({float(torch.rand(1, generator=batch_generator(*place))) for place in places}) == len(places)
