"""From the loader's batch to what the network is trained on: crop, flip, augment, mix, normalise; on the device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from repfold.data import Batch, CropSettings, batch_generator
from repfold.data.augment import Chain
from repfold.data.augment_geometry import Crop
from repfold.data.mixing import Mixing
from repfold.data.transforms import to_input
from repfold.models import Preprocessing
from repfold.train.distributed import Ranks
from repfold.train.machine import Machine
from repfold.train.settings import Settings


@dataclass(frozen=True)
class BatchTransform:
    """Turns batches into (input, targets). All randomness is a function of the seed, the epoch and the step."""

    seed: int
    batch: int
    augmentation: Chain
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
    settings: Settings, crop: CropSettings, preprocessing: Preprocessing, classes: int, machine: Machine, ranks: Ranks
) -> BatchTransform:
    """Return the transform of batches of images that are framed by ``crop``."""
    augmentation = settings.augmentation
    if crop.padding_pixels(preprocessing.image_size):
        augmentation = Chain((Crop(crop.padding, "reflect"), *augmentation.links))
    return BatchTransform(
        seed=settings.seed,
        batch=settings.batch,
        augmentation=augmentation,
        mixing=settings.mixing,
        classes=classes,
        preprocessing=preprocessing,
        machine=machine,
        ranks=ranks,
    )
