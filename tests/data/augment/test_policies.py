"""What all augmentations share: seeds decide, images are independent, dtypes and shapes stay, text and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repfold.data import augment
from repfold.data.augment.geometry import Crop, Flip, ResizedCrop
from repfold.data.augment.policies import STANDARD, WITH_INVERT, RandAugment, TrivialAugment, operate
from repfold.data.augment.subpolicies import CIFAR10, IMAGENET
from repfold.errors import RepFoldError

EVERY = sorted(augment.AUGMENTATIONS)
WHOLE = "flip+crop+randaugment+cutout"


def noise(count: int, side: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, side, side + 4), dtype=torch.uint8, generator=seeded(99))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("text", [*EVERY, WHOLE, "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_seed_decides_and_the_input_is_left_alone(text: str, channels: int) -> None:
    change, x = augment.parse(text), noise(60, channels=channels)
    before = x.clone()
    first, again, other = (change(x, seeded(seed), progress=1.0) for seed in (1, 1, 2))
    assert torch.equal(first, again) and torch.equal(x, before)
    assert first.dtype == torch.uint8 and first.shape == x.shape
    assert torch.equal(first, other) == (text == "none")


@pytest.mark.parametrize("text", [*EVERY, WHOLE])
def test_images_are_drawn_for_one_by_one(text: str) -> None:
    """Sixty copies of one image come out in many ways."""
    x = noise(1).expand(60, -1, -1, -1)
    results = augment.parse(text)(x, seeded(3), progress=1.0)
    assert len(results.flatten(1).unique(dim=0)) >= (2 if text == "flip" else 15)


@pytest.mark.parametrize("text", [text for text in [*EVERY, WHOLE] if text not in ("colour-jitter", "random-erasing")])
def test_processes_that_share_a_batch_draw_what_one_would(text: str) -> None:
    change, x = augment.parse(text), noise(12)
    whole = change(x, seeded(5), progress=1.0)
    halves = [change(x[first : first + 6], seeded(5), progress=1.0, first=first, total=12) for first in (0, 6)]
    assert torch.equal(torch.cat(halves), whole)


@pytest.mark.parametrize("text", [*EVERY, WHOLE])
def test_float_images_and_channels_last_give_the_same(text: str) -> None:
    change, x = augment.parse(text), noise(40)
    expected = change(x, seeded(4), progress=1.0)
    last = change(x.contiguous(memory_format=torch.channels_last), seeded(4), progress=1.0)
    assert torch.equal(last, expected)
    floats = change(x / 255, seeded(4), progress=1.0)
    assert floats.dtype == torch.float32 and floats.min() >= 0 and floats.max() <= 1
    if text != "random-erasing":  # whose noise has more levels in floats
        assert (floats * 255 - expected).abs().max() < 1.01


@pytest.mark.parametrize("text", [*EVERY, WHOLE, "cutout:size=0.25,fill=0+flip", "none", "hide-and-seek:cells=0.1/0.2"])
def test_text_and_back(text: str) -> None:
    change = augment.parse(text)
    assert str(change) == text
    assert augment.parse(str(change)) == change


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cutuot", "Did you mean 'cutout'"),
        ("flip+rand_augmnet", "Did you mean 'randaugment'"),
        ("cutout:sise=0.5", "Did you mean 'size'"),
        ("randaugment:magnitude=11", "must lie in"),
        ("randaugment:layers=1.5", "cannot be read as int"),
        ("randaugment:layers=0", "at least 1"),
        ("autoaugment:policy=cifar", "Did you mean 'cifar10'"),
        ("crop:padding=4", "share of the side"),
        ("crop:mode=reflekt", "constant or reflect"),
        ("resized-crop:scale=0/1", "scale"),
        ("resized-crop:scale=0.5", "cannot be read"),
        ("flip:probability=2", "must lie in"),
        ("colour-jitter:hue=1", "half the colour circle"),
        ("colour-jitter:contrast=-1", "must lie in"),
    ],
)
def test_mistakes_are_told(text: str, message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        augment.parse(text)


def test_flip_mirrors_half_of_the_images() -> None:
    x = noise(1000, side=4)
    flipped = Flip()(x, seeded(0))
    mirrored = (flipped == x.flip(3)).flatten(1).all(dim=1)
    kept = (flipped == x).flatten(1).all(dim=1)
    assert (mirrored ^ kept).all() and mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crop_is_a_window_of_the_padded_image(mode: str) -> None:
    x = noise(400, side=8)
    cropped = Crop(padding=0.25, mode=mode, fill=3)(x, seeded(0))
    padded = torch.nn.functional.pad(
        x.float(), (3, 3, 2, 2), mode=mode, **({"value": 3.0} if mode == "constant" else {})
    )
    windows = padded.unfold(2, 8, 1).unfold(3, 12, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
    found = (windows == cropped.float().flatten(1)[:, None, None]).all(dim=3)
    assert (found.sum(dim=(1, 2)) == 1).all()  # each is one of the 5 x 7 windows
    assert found.any(dim=0).all()  # and each window occurs
    assert found.float().mean(dim=0).max() < 0.08


@given(st.floats(0.05, 1.0), st.integers(0, 10))
def test_resized_crop_shows_a_box_of_the_area_told(scale: float, seed: int) -> None:
    """On an image of its own coordinates, the box can be read off the result."""
    side, count = 64, 8
    ramp = torch.arange(side, dtype=torch.float32).expand(count, 1, side, side) / side
    x = torch.cat([ramp, ramp.transpose(2, 3)], dim=1)
    result = ResizedCrop(scale=(scale, scale))(x, seeded(seed))
    width = (result[:, 0, 0, -2] - result[:, 0, 0, 1]) * side / (side - 3)
    height = (result[:, 1, -2, 0] - result[:, 1, 1, 0]) * side / (side - 3)
    box = torch.stack([width, height]).clamp(max=1)
    wide_enough = scale < 0.74  # a square fits, whatever the aspect, and so one of ten draws does
    if wide_enough:
        assert (box.prod(dim=0) - scale).abs().max() < 0.05
        assert ((box[0] / box[1]).log().abs() < torch.tensor(4 / 3).log() + 0.12).all()


def test_resized_crop_of_everything_is_the_image() -> None:
    x = noise(5)[..., :16]
    assert torch.equal(ResizedCrop(scale=(1, 1), ratio=(1, 1))(x, seeded(0)), x)


def test_randaugment_draws_all_operations_alike() -> None:
    """Each of 14 operations is drawn for about 1/14 of the images, and identity leaves as many untouched."""
    x = noise(2800, side=8)
    same = (RandAugment(layers=1)(x, seeded(0)) == x).flatten(1).all(dim=1).float().mean().item()
    # Identity always, translations by less than a pixel never; autocontrast of noise seldom changes nothing.
    assert 1 / 14 - 0.02 < same < 2 / 14 + 0.03
    untouched = RandAugment(layers=1, magnitude=0)(x, seeded(0))
    changed = (untouched != x).flatten(1).any(dim=1).float().mean().item()
    assert changed < 2 / 14 + 0.03  # at strength 0 only autocontrast and equalize do anything


def test_strength_grows_with_the_magnitude() -> None:
    x = noise(600, side=16)
    distance = [
        (RandAugment(magnitude=magnitude)(x, seeded(0)).float() - x).abs().mean().item() for magnitude in (1, 5, 10)
    ]
    assert distance == sorted(distance) and distance[2] > 1.5 * distance[0]
    assert (TrivialAugment()(x, seeded(0)) != x).flatten(1).any(dim=1).float().mean() > 0.8


def test_layers_are_the_operations_one_after_the_other() -> None:
    """The grouped fast path against one image and one operation at a time."""
    x, space = noise(60), STANDARD
    operation = torch.arange(60) % len(space)
    strength, sign = torch.linspace(0, 1, 60), torch.where(torch.arange(60) % 2 == 0, 1.0, -1.0)
    together = operate(x, operation, strength, sign, space, fill=50)
    for place in range(60):
        row = slice(place, place + 1)
        alone = operate(x[row], operation[row], strength[row], sign[row], space, fill=50)
        assert torch.equal(alone, together[row])


@pytest.mark.parametrize("policy", [IMAGENET, CIFAR10])
def test_learned_policies_name_known_operations(policy: tuple[tuple[tuple[str, float, int], ...], ...]) -> None:
    assert len(policy) == 25
    for name, probability, level in (step for pair in policy for step in pair):
        assert name in WITH_INVERT and 0 <= probability <= 1 and 0 <= level <= 9


def test_autoaugment_of_images_that_nothing_changes() -> None:
    """On gray images of one level only inversion, solarization and brightness can change the level."""
    x = torch.full((400, 3, 8, 8), 128, dtype=torch.uint8)
    result = augment.parse("autoaugment:policy=cifar10")(x, seeded(0))
    assert (result.amax(dim=(1, 2, 3)) == result.amin(dim=(1, 2, 3))).all()
    assert 0.5 < (result == x).float().mean() < 0.95
