"""The data of a recipe: opened, measured, and served in batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from repfold.data import CropSettings, Loader, Source, channel_statistics, open_source
from repfold.errors import RepFoldError
from repfold.models import Preprocessing
from repfold.train.distributed import Ranks
from repfold.train.events import Listener, Note, Preparing
from repfold.train.machine import Machine
from repfold.train.recipe import Recipe


def open_data(recipe: Recipe, say: Listener) -> Source:
    """Open the recipe's data, telling how far it is and what is left out.

    Raises: RepFoldError when there is none, or it cannot be used.
    """
    if not recipe.data:
        raise RepFoldError("The recipe names no data: give a folder of class folders, or 'digits' to try.")
    source = open_source(
        recipe.data,
        image_size=recipe.image_size or None,
        resize=recipe.resize or None,
        crop=_crop(recipe),
        channels=recipe.channels or None,
        val_fraction=recipe.val_fraction,
        per_class=recipe.per_class if any(recipe.per_class) else None,
        seed=recipe.seed,
        skip_broken=recipe.skip_broken,
        max_pixels=recipe.max_pixels,
        on_progress=lambda done, total: say(Preparing(done, total)),
    )
    if len(source.classes) < 2:
        raise RepFoldError(
            f"{recipe.data} has one class only ('{source.classes[0]}'): there is nothing to tell apart. If that folder "
            f"holds the class folders, give it: {recipe.data}/{source.classes[0]}."
        )
    for folder in source.passed_over:
        say(Note(f"{folder} is passed over, since its name begins with a dot: rename it if it is a class"))
    if source.skipped:
        named = ", ".join(source.skipped[:5]) + (", ..." if len(source.skipped) > 5 else "")
        say(Note(f"{len(source.skipped)} broken files are left out: {named}"))
    return source


def preprocessing_of(source: Source, seed: int) -> Preprocessing:
    """Return how images become the network's input: the source's framing, the training images' mean and deviation."""
    mean, std = channel_statistics(source.train, seed=seed)
    return Preprocessing(source.image_size, source.resize, mean, std, 1 if source.channels == 1 else 3)


def make_loaders(recipe: Recipe, source: Source, machine: Machine, ranks: Ranks) -> Sequence[Loader]:
    """Return the loaders of the training images, the validation images, and the clean sample of training images."""
    loader = partial(
        source.loader,
        batch=recipe.batch,
        seed=recipe.seed,
        rank=ranks.rank,
        world=ranks.world,
        pin_memory=machine.device.type == "cuda",
    )
    sample = source.train.sample(recipe.train_sample, recipe.seed)
    return loader("train", train=True), loader("val", train=False), loader(sample, train=False)


def _crop(recipe: Recipe) -> CropSettings | None:
    """The recipe's crop, or None when the images are to decide and nothing is said that only one kind takes."""
    default = Recipe()
    kind = recipe.crop
    if kind == "auto":
        resized = (recipe.crop_scale, recipe.crop_ratio) != (default.crop_scale, default.crop_ratio)
        padded = recipe.crop_padding != default.crop_padding
        if resized and padded:
            raise RepFoldError("crop_padding is for crop 'padded', crop_scale and crop_ratio for 'resized': say which.")
        if not resized and not padded:
            return None
        kind = "resized" if resized else "padded"
    return CropSettings(kind, recipe.crop_scale, recipe.crop_ratio, recipe.crop_padding)
