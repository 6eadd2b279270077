"""Every operation of the policies against Pillow, image by image: colours to the bit, affine maps up to rounding."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageOps

from repfold.data.augment.color import BLENDS, TABLES, look_up, turn_hue
from repfold.data.augment.geometry import AFFINES, sample_nearest

SIDE = 24


def photographs(channels: int = 3) -> torch.Tensor:
    """uint8 [6, C, 24, 20]: noise, smooth shades, low contrast, one level only, two levels, and a dark picture."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (SIDE, 20, channels))
    rows, columns = np.mgrid[:SIDE, :20]
    shades = np.stack([rows * 9 + columns, 255 - rows * 7, columns * 11], axis=2)[..., :channels]
    flat = np.full((SIDE, 20, channels), 77)
    halves = np.where(columns[..., None] < 7, 30, [200, 30, 90][:channels])
    pictures = [noise, shades, 100 + noise // 8, flat, halves, noise // 40]
    return torch.from_numpy(np.stack(pictures).astype(np.uint8)).permute(0, 3, 1, 2)


def to_pil(image_CHW: torch.Tensor) -> Image.Image:
    pixels = image_CHW.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def from_pil(image: Image.Image) -> torch.Tensor:
    pixels = np.asarray(image)
    return torch.from_numpy(np.array(pixels)).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def by_pillow(
    operation: Callable[[Image.Image, float], Image.Image], x: torch.Tensor, amount: torch.Tensor
) -> torch.Tensor:
    return torch.stack(
        [from_pil(operation(to_pil(image), float(value))) for image, value in zip(x, amount, strict=True)]
    )


FACTORS = [0.1, 0.5, 1.0, 1.3, 1.9, 0.0]
COLOURS: dict[str, tuple[Callable[[Image.Image, float], Image.Image], list[float]]] = {
    "brightness": (lambda image, factor: ImageEnhance.Brightness(image).enhance(factor), FACTORS),
    "contrast": (lambda image, factor: ImageEnhance.Contrast(image).enhance(factor), FACTORS),
    "colour": (lambda image, factor: ImageEnhance.Color(image).enhance(factor), FACTORS),
    "sharpness": (lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor), FACTORS),
    "posterize": (lambda image, bits: ImageOps.posterize(image, int(bits)), [1, 2, 4, 5, 7, 8]),
    "solarize": (lambda image, threshold: ImageOps.solarize(image, threshold), [0, 1, 50, 128, 255, 256]),
    "invert": (lambda image, _: ImageOps.invert(image), [0] * 6),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), [0] * 6),
    "equalize": (lambda image, _: ImageOps.equalize(image), [0] * 6),
}


def ours(name: str, x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    if name in BLENDS:
        return BLENDS[name](x, amount)
    return look_up(x, TABLES[name](x, amount).expand(-1, x.shape[1], -1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(COLOURS))
def test_colours_are_pillow_s_to_the_bit(name: str, channels: int) -> None:
    pillow, amounts = COLOURS[name]
    x = photographs(channels)
    for turn in range(6):  # every amount on every picture
        amount = torch.tensor(amounts).roll(turn).float()
        assert torch.equal(ours(name, x, amount), by_pillow(pillow, x, amount))


def test_the_comparison_sees_a_difference_of_one_level() -> None:
    x = photographs()
    wrong = ours("brightness", x, torch.full((6,), 1.01))
    assert not torch.equal(wrong, by_pillow(COLOURS["brightness"][0], x, torch.ones(6)))


def test_every_operation_has_an_oracle() -> None:
    assert set(COLOURS) == set(TABLES) | set(BLENDS)


def affine(image: Image.Image, coefficients: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, fillcolor=(9, 9, 9))


MOVES: dict[str, tuple[Callable[[Image.Image, float], Image.Image], list[float]]] = {
    "shear-x": (lambda image, slope: affine(image, (1, slope, 0, 0, 1, 0)), [-0.3, -0.1, 0, 0.07, 0.3, 0.99]),
    "shear-y": (lambda image, slope: affine(image, (1, 0, 0, slope, 1, 0)), [-0.3, -0.1, 0, 0.07, 0.3, 0.99]),
    "translate-x": (
        lambda image, share: affine(image, (1, 0, round(share * 20), 0, 1, 0)),
        [-0.9, -0.26, 0, 0.06, 0.3, 1],
    ),
    "translate-y": (
        lambda image, share: affine(image, (1, 0, 0, 0, 1, round(share * SIDE))),
        [-0.9, -0.26, 0, 0.06, 0.3, 1],
    ),
    "rotate": (lambda image, turn: image.rotate(turn, fillcolor=(9, 9, 9)), [-130, -27, 3, 10, 30, 77]),
}


@pytest.mark.parametrize("name", sorted(AFFINES))
def test_affine_maps_are_pillow_s(name: str) -> None:
    """Pillow counts in 65536ths of a pixel, so a coordinate on the edge of two pixels may fall to either."""
    pillow, amounts = MOVES[name]
    x = photographs()
    for turn in range(6):
        amount = torch.tensor(amounts).roll(turn).float()
        moved = sample_nearest(x, AFFINES[name](amount, SIDE, 20), fill=9)
        expected = by_pillow(pillow, x, amount)
        same = (moved == expected).all(dim=1).float().mean(dim=(1, 2))
        assert same.min() > 0.985, (amount, same)


def test_no_shift_and_whole_turns_are_exact() -> None:
    x = photographs()[:, :, :20]
    for name in ("shear-x", "translate-y", "rotate"):
        assert torch.equal(sample_nearest(x, AFFINES[name](torch.zeros(6), 20, 20), fill=9), x)
    half = sample_nearest(x, AFFINES["rotate"](torch.full((6,), 180.0), 20, 20), fill=9)
    assert torch.equal(half[..., 1:-1, 1:-1], x.flip(2, 3)[..., 1:-1, 1:-1])


def test_turning_the_hue_agrees_with_colorsys() -> None:
    import colorsys

    x, turn = photographs(), torch.tensor([-0.5, -0.1, 0.0, 0.1, 0.25, 0.5])
    turned = turn_hue(x, turn)
    for image, result, amount in zip(x, turned, turn.tolist(), strict=True):
        for before, after in zip(image.flatten(1).T[::17].tolist(), result.flatten(1).T[::17].tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*(level / 255 for level in before))
            expected = [255 * level for level in colorsys.hsv_to_rgb((hue + amount) % 1, saturation, value)]
            assert all(math.isclose(a, b, abs_tol=0.51) for a, b in zip(after, expected, strict=True))
    assert torch.equal(turned[2], x[2])
    assert ImageChops.difference(to_pil(turned[3]), to_pil(x[3])).getbbox() is None  # gray has no hue
