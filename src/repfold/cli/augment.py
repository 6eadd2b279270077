"""``repfold augment``: what augmentation makes of the images of a data set, as a sheet of before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.terminal import echo, print_json
from repfold.counted import counted
from repfold.limits import MOST_PIXELS

if TYPE_CHECKING:
    from torch import Tensor

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def augment(
    data: Annotated[str, tyro.conf.Positional],
    /,
    *,
    preview: Path = Path("augment.png"),
    augment: str | None = None,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    images: int = 8,
    draws: int = 6,
    image_size: int | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    max_pixels: int = MOST_PIXELS,
    json: bool = False,
) -> None:
    """Draw a sheet of images before and after augmentation.

    Args:
        data: A folder of images, CIFAR's files, IDX files, or digits.
        preview: The picture to write: .png, .jpg or .webp.
        augment: Augmentations joined by +, as flip+crop+randaugment:magnitude=5+cutout. If not given, all known.
        mixup: The alpha of MixUp, 0 for none.
        cutmix: The alpha of CutMix, 0 for none.
        images: Number of training images to show.
        draws: Number of times they are augmented, with --augment, --mixup or --cutmix.
        image_size: Side of the square that the network sees.
        seed: Seed of the choice of images and of the augmentations.
        skip_broken: Leave files out that cannot be decoded.
        max_pixels: Most pixels of an image file: larger ones are broken.
        json: Print one JSON object.
    """
    from repfold.data.augment import AUGMENTATIONS, Mixing, parse
    from repfold.data.augment.sheet import rows_of_draws, rows_of_each, write_sheet
    from repfold.errors import RepFoldError

    if preview.suffix.lower() not in PICTURES:
        raise RepFoldError(f"{preview}: unknown picture format '{preview.suffix}'. Use one of {', '.join(PICTURES)}.")
    if images < 1 or draws < 1:
        raise RepFoldError(f"--images {images} --draws {draws}: both must be at least 1.")
    if not 0 <= seed < 2**63:
        raise RepFoldError(f"--seed {seed}: a seed is a whole number from 0 to 2^63 - 1.")
    mixing, chain = Mixing(mixup, cutmix), parse(augment or "none")
    x_NCHW = _images(data, images, image_size, seed, skip_broken, max_pixels)
    if augment is None and not mixup and not cutmix:
        rows = rows_of_each(x_NCHW, seed)
    else:
        rows = rows_of_draws(x_NCHW, chain, mixing, seed, draws)
    write_sheet(rows, preview)
    if json:
        shown = [name for name, _ in rows]
        print_json({"preview": str(preview), "augment": str(chain), "rows": shown, "images": len(x_NCHW)})
        return
    if augment is None:
        echo(f"Augmentations: {', '.join(AUGMENTATIONS)}.")
    echo(f"Written: {preview} ({counted(len(x_NCHW), 'image')}, {counted(len(rows), 'row')})")


def _images(data: str, count: int, image_size: int | None, seed: int, skip_broken: bool, max_pixels: int) -> Tensor:
    """Return uint8 [N, C, S, S]: some training images as the network would see them without augmentation."""
    from repfold.data import CropSettings, DataSettings, open_source

    crop = CropSettings("centre")
    settings = DataSettings(
        data, image_size=image_size, crop=crop, seed=seed, skip_broken=skip_broken, max_pixels=max_pixels
    )
    source = open_source(settings, parts=("train",), cache_bytes=0)
    shown = source.train.sample(count, seed)
    loader = source.loader(shown, len(shown), train=False, workers=1)
    return next(iter(loader.epoch(0))).x_NCHW
