"""From the loader's batch to what the network is trained on: crop, flip, augment, mix, normalise; on the device."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repfold.data import Batch, CropSettings, augment, batch_generator
from repfold.data.augment import Augmentation, Crop, Flip, Mixing
from repfold.data.transforms import to_input
from repfold.models import Preprocessing
from repfold.train.distributed import Ranks
from repfold.train.machine import Machine
from repfold.train.recipe import Recipe

# Keeps the random numbers of network layers (dropout) apart from those that begin the weights.
_LAYERS = 1


@dataclass(frozen=True)
class BatchTransform:
    """Turns batches into (input, targets). All randomness is a function of the seed, the epoch and the step."""

    seed: int
    batch: int
    framing: augment.Chain
    augmentation: augment.Chain
    mixing: Mixing
    classes: int
    preprocessing: Preprocessing
    machine: Machine
    ranks: Ranks

    def __call__(self, batch: Batch, epoch: int, step: int, progress: float) -> tuple[Tensor, Tensor]:
        """Return the input [B, C, S, S] and the targets, int64 [B] or, mixed, float32 [B, K].

        ``progress``: the share of the training that is done.
        """
        generator = batch_generator(self.seed, epoch, step)
        # Draws are made for the global batch, of which this process holds the images from ``first`` on.
        first = self.ranks.rank * (self.batch // self.ranks.world)
        device = self.machine.device
        x_NCHW = batch.x_NCHW.to(device, non_blocking=True)
        labels_B = batch.labels.to(device, non_blocking=True)
        x_NCHW = self.framing(x_NCHW, generator, first=first, total=self.batch)
        x_NCHW = self.augmentation(x_NCHW, generator, progress=progress, first=first, total=self.batch)
        targets = labels_B
        if self.mixing.mixup or self.mixing.cutmix:
            mixed = self.mixing(x_NCHW, labels_B, generator, first=first, total=self.batch)
            x_NCHW, targets = mixed.x_NCHW, mixed.targets(self.classes)
        return self.input(x_NCHW), targets

    def input(self, x_NCHW: Tensor) -> Tensor:
        """Return uint8 pixels on the device as the network's input."""
        return to_input(
            x_NCHW,
            self.preprocessing.mean,
            self.preprocessing.std,
            dtype=self.machine.dtype,
            channels_last=self.machine.channels_last,
        )


def batch_transform(
    recipe: Recipe, crop: CropSettings, preprocessing: Preprocessing, classes: int, machine: Machine, ranks: Ranks
) -> BatchTransform:
    """Return the transform that the recipe describes. Raises: RepFoldError for an augmentation that is none."""
    framing: list[Augmentation] = []
    if crop.padding_pixels(preprocessing.image_size):
        framing.append(Crop(crop.padding, "reflect"))
    if recipe.flip:
        framing.append(Flip(recipe.flip))
    return BatchTransform(
        seed=recipe.seed,
        batch=recipe.batch,
        framing=augment.Chain(tuple(framing)),
        augmentation=augment.parse(recipe.augment),
        mixing=Mixing(recipe.mixup, recipe.cutmix, recipe.mixing_share),
        classes=classes,
        preprocessing=preprocessing,
        machine=machine,
        ranks=ranks,
    )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed the global random numbers for one step of one process.

    What layers such as dropout draw is then a function of the place in the training, so that a resumed run draws the
    same without any state of generators in its checkpoint.
    """
    word = int(np.random.SeedSequence(seed, spawn_key=(_LAYERS, step, rank)).generate_state(1)[0])
    torch.manual_seed(word)
    random.seed(word)
    np.random.seed(word)
