"""From the loader's batch to what the network is trained on: crop, flip, augment, mix, normalise; on the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from repfold.data import Batch, CropSettings, batch_generator
from repfold.data.augment import Chain, Crop
from repfold.data.transforms import to_input
from repfold.models import Preprocessing
from repfold.train.distributed import Ranks
from repfold.train.machine import Machine
from repfold.train.settings import Settings


@dataclass(frozen=True)
class BatchTransform:
    """Turns batches of images, framed by ``crop``, into (input, targets), as the settings say.

    All randomness is a function of the seed, the epoch and the step.
    """

    settings: Settings
    crop: CropSettings
    preprocessing: Preprocessing
    classes: int
    machine: Machine
    ranks: Ranks

    @cached_property
    def augmentation(self) -> Chain:
        """That of the settings, behind the crop if it is one that is made on the device."""
        padded = self.crop.padding_pixels(self.preprocessing.image_size)
        return Chain((*([Crop(self.crop.padding, "reflect")] if padded else []), *self.settings.augmentation.links))

    def __call__(self, batch: Batch, epoch: int, step: int, progress: float) -> tuple[Tensor, Tensor]:
        """Return the input [B, C, S, S] and the targets, int64 [B] or, mixed, float32 [B, K].

        ``progress``: the share of the training that is done.
        """
        mixing, total = self.settings.mixing, self.settings.batch
        generator = batch_generator(self.settings.seed, epoch, step)
        # Draws are made for the global batch, of which this process holds the images from ``first`` on.
        first = self.ranks.rank * (total // self.ranks.world)
        x_NCHW = batch.x_NCHW.to(self.machine.device, non_blocking=True)
        targets = batch.labels.to(self.machine.device, non_blocking=True)
        x_NCHW = self.augmentation(x_NCHW, generator, progress=progress, first=first, total=total)
        if mixing.mixup or mixing.cutmix:
            mixed = mixing(x_NCHW, targets, generator, first=first, total=total)
            x_NCHW, targets = mixed.x_NCHW, mixed.targets(self.classes)
        return to_input(
            x_NCHW,
            self.preprocessing.mean,
            self.preprocessing.std,
            dtype=self.machine.dtype,
            channels_last=self.machine.channels_last,
        ), targets
