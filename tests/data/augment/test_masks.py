"""What is hidden, how much of it and how often: Cutout, Random Erasing, GridMask, Hide-and-Seek."""

import math

import pytest
import torch

from repfold.data.augment.masks import Cutout, GridMask, HideAndSeek, RandomErasing
from repfold.errors import RepFoldError

COUNT, SIDE = 2000, 32


def hidden(
    augmentation: Cutout | RandomErasing | GridMask | HideAndSeek, progress: float = 1.0, seed: int = 0
) -> torch.Tensor:
    """Return bool [COUNT, SIDE, SIDE], true where an image of level 7 was changed."""
    x = torch.full((COUNT, 1, SIDE, SIDE), 7, dtype=torch.uint8)
    changed = augmentation(x, torch.Generator().manual_seed(seed), progress=progress) != x
    return changed[:, 0]


def boxes(mask: torch.Tensor) -> torch.Tensor:
    """Return [n, 2], the height and width of what is hidden in each image that has any, after checking it is a box."""
    some = mask[mask.any(dim=(1, 2))]
    rows, columns = some.any(dim=2), some.any(dim=1)
    assert torch.equal(some, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):
        assert ((line[:, 1:] != line[:, :-1]).sum(dim=1) <= 2).all()  # in one piece
    return torch.stack([rows.sum(dim=1), columns.sum(dim=1)], dim=1)


@pytest.mark.parametrize("size", [0.25, 0.5, 1.0])
def test_cutout_hides_one_square_cut_off_at_the_border(size: float) -> None:
    mask = hidden(Cutout(size=size))
    side = round(size * SIDE)
    spans = boxes(mask)
    assert spans.max() == side and spans.min() >= side // 2
    kept = [min(centre - side // 2 + side, SIDE) - max(centre - side // 2, 0) for centre in range(SIDE)]
    expected = (sum(kept) / SIDE / SIDE) ** 2
    assert mask.float().mean().item() == pytest.approx(expected, rel=0.02)


def test_cutout_covers_every_place_alike() -> None:
    """The hidden share of a row is that of a uniform centre: the middle rows more often than the border."""
    share = hidden(Cutout(size=0.5)).float().mean(dim=(0, 2))
    assert share[16] == pytest.approx(16 / 32 * 14 / 32, abs=0.03)
    assert share[0] / share[16] == pytest.approx(9 / 16, abs=0.06)


def test_random_erasing_has_its_probability_area_and_aspect() -> None:
    # Level 7 is drawn by the noise once in 256 pixels; gray makes the box visible as a whole.
    mask = hidden(RandomErasing(fill="gray"))
    touched = mask.any(dim=(1, 2)).float().mean().item()
    assert touched == pytest.approx(0.5, abs=0.035)
    spans = boxes(mask).double()
    area, aspect = spans.prod(dim=1) / SIDE**2, spans[:, 0] / spans[:, 1]
    assert area.min() > 0.015 and area.max() < 0.43
    assert area.mean().item() == pytest.approx(0.2, abs=0.02)  # below (0.02 + 0.4)/2: long large ones do not fit
    assert aspect.log().mean().item() == pytest.approx(0, abs=0.06)  # log-uniform, so as often tall as wide
    assert aspect.min() > 0.2 and aspect.max() < 5


def test_random_erasing_fills_with_uniform_noise() -> None:
    x = torch.zeros(200, 3, SIDE, SIDE, dtype=torch.uint8)
    erased = RandomErasing(probability=1.0)(x, torch.Generator().manual_seed(1))
    levels = erased[erased > 0].float()
    assert levels.mean().item() == pytest.approx(128, abs=2) and levels.max() == 255
    assert not torch.equal(erased[:, 0], erased[:, 1])
    floats = RandomErasing(probability=1.0)(x.float(), torch.Generator().manual_seed(1))
    assert 0.99 < floats.max() < 1


@pytest.mark.parametrize(("ratio", "share"), [(0.5, 0.25), (0.3, 0.09), (0.7, 0.49)])
def test_gridmask_hides_the_square_of_its_ratio(ratio: float, share: float) -> None:
    mask = hidden(GridMask(ratio=ratio, probability=1.0))
    assert mask.float().mean().item() == pytest.approx(share, rel=0.06)


def test_gridmask_is_periodic() -> None:
    mask = hidden(GridMask(period=(0.25, 0.25), probability=1.0))
    assert torch.equal(mask[:, 8:], mask[:, :-8]) and torch.equal(mask[:, :, 8:], mask[:, :, :-8])
    assert (mask.float().mean(dim=(1, 2)) == 0.25).all()


def test_gridmask_probability_grows_with_the_training() -> None:
    grid = GridMask()
    assert [grid.probability_at(progress) for progress in (0, 0.4, 0.8, 1)] == pytest.approx([0, 0.35, 0.7, 0.7])
    touched = [hidden(grid, progress).any(dim=(1, 2)).float().mean().item() for progress in (0.0, 0.4, 1.0)]
    assert touched == pytest.approx([0, 0.35, 0.7], abs=0.035)
    assert GridMask(ramp=0.0).probability_at(0) == 0.7


def test_hide_and_seek_hides_whole_cells_half_of_them() -> None:
    mask = hidden(HideAndSeek(cells=(0.25,)))
    cells = mask.view(COUNT, 4, 8, 4, 8).float().mean(dim=(2, 4))
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    assert cells.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (cells.mean(dim=0) - 0.5).abs().max() < 0.05  # each cell by itself, all alike
    assert len({tuple(row) for row in cells.flatten(1).int().tolist()}) > 1500


def test_hide_and_seek_draws_the_cell_size_for_each_image() -> None:
    untouched = (~hidden(HideAndSeek()).any(dim=(1, 2))).float().mean().item()
    # Cells of 0 pixels, and the 2^-25 ... 2^-16 of images of which no cell was drawn.
    assert untouched == pytest.approx(0.2, abs=0.03)
    assert not hidden(HideAndSeek(cells=(0.0,))).any()


def test_images_need_not_be_square_and_floats_get_float_gray() -> None:
    x = torch.zeros(50, 3, 20, 45)
    for augmentation in (Cutout(), GridMask(probability=1.0, ramp=0.0), HideAndSeek(), RandomErasing(1.0, fill="gray")):
        result = augmentation(x, torch.Generator().manual_seed(0))
        assert result.unique().tolist() == pytest.approx([0.0, 128 / 255])
        assert result.shape == x.shape and not x.any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cutout(size=0),
        lambda: Cutout(size=16),
        lambda: Cutout(fill=300),
        lambda: RandomErasing(probability=2),
        lambda: RandomErasing(area=(0, 0.4)),
        lambda: RandomErasing(aspect=(3, 1)),
        lambda: RandomErasing(fill="black"),
        lambda: GridMask(ratio=1),
        lambda: GridMask(period=(0.5, 0.2)),
        lambda: GridMask(ramp=-1),
        lambda: HideAndSeek(cells=()),
        lambda: HideAndSeek(cells=(16.0,)),
        lambda: HideAndSeek(probability=math.nan),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(RepFoldError):
        make()  # type: ignore[operator]
