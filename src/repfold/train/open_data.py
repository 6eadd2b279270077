"""The data of a recipe: opened, measured, and served in batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from repfold.data import Loader, Source, channel_statistics, open_source
from repfold.data.settings import DataSettings
from repfold.errors import RepFoldError
from repfold.models import Preprocessing
from repfold.train.distributed import Ranks
from repfold.train.events import Listener, Note, Preparing
from repfold.train.machine import Machine
from repfold.train.normalisation import Normalisation
from repfold.train.settings import Settings


def open_data(settings: DataSettings, emit: Listener) -> Source:
    """Open the data, emitting how far it is and what is left out.

    Raises: RepFoldError when there is none, or it cannot be used.
    """
    if not settings.spec:
        raise RepFoldError("The recipe names no data: give a folder of class folders, or 'digits' to try.")
    source = open_source(settings, on_progress=lambda done, total: emit(Preparing(done, total)))
    if len(source.classes) < 2:
        raise RepFoldError(
            f"{settings.spec} has one class only ('{source.classes[0]}'): there is nothing to tell apart. If that "
            f"folder holds the class folders, give it: {settings.spec}/{source.classes[0]}."
        )
    for folder in source.passed_over:
        emit(Note(f"{folder} is passed over, since its name begins with a dot: rename it if it is a class"))
    if source.skipped:
        named = ", ".join(source.skipped[:5]) + (", ..." if len(source.skipped) > 5 else "")
        emit(Note(f"{len(source.skipped)} broken files are left out: {named}"))
    return source


def preprocessing_of(
    source: Source, normalisation: Normalisation, pretrained: Preprocessing | None, seed: int
) -> Preprocessing:
    """Return how images become the network's input: the source's framing, and mean and deviation.

    ``pretrained``: how they became that of the network whose weights this one starts from, if that is known.

    Raises: RepFoldError for a mean of another number of channels than the images have.
    """
    fits = pretrained is not None and pretrained.channels == source.channels
    if normalisation.fixed is not None:
        mean, std = normalisation.fixed
        if len(mean) != source.channels:
            raise RepFoldError(
                f"normalise gives {len(mean)} means for images of {source.channels} channels: give one each, or auto; "
                "or have images of so many channels: --channels 3."
            )
    elif normalisation.prefer_pretrained and pretrained is not None and fits:
        mean, std = pretrained.mean, pretrained.std
    else:
        mean, std = channel_statistics(source.train, seed=seed)
    return Preprocessing(source.image_size, source.resize, mean, std, 1 if source.channels == 1 else 3)


def make_loaders(settings: Settings, source: Source, machine: Machine, ranks: Ranks) -> Sequence[Loader]:
    """Return the loaders of the training images, the validation images, and the clean sample of training images."""
    loader = partial(
        source.loader,
        batch=settings.batch,
        seed=settings.seed,
        rank=ranks.rank,
        world=ranks.world,
        pin_memory=machine.device.type == "cuda",
    )
    sample = source.train.sample(settings.train_sample, settings.data.seed)
    training = loader("train", train=True, balanced=settings.balanced)
    return training, loader("val", train=False), loader(sample, train=False)
