"""Batches of uint8 pixels, made in the background, each a pure function of the seed, the epoch and the step."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from repfold.data import seeding
from repfold.data.collection import Images
from repfold.data.crops import UNIFORMS_PER_BOX, centre_boxes, cut, random_boxes
from repfold.data.images import BrokenImageError
from repfold.errors import RepFoldError

BATCHES_AHEAD = 3


class Batch(NamedTuple):
    """``x_NCHW``: uint8 [B, C, S, S], channels last in memory; ``labels_N``: int64 [B]."""

    x_NCHW: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class _Pending:
    """A batch under way: its pixels are complete when every task is done."""

    x_NCHW: torch.Tensor
    labels: torch.Tensor
    tasks: list[Future[None]]


class Loader:
    """Batches of ``images`` as the network sees them, before the device-side transforms.

    Training (``train=True``): every epoch a new order, random crops where the images' crop is "resized", the last
    partial batch dropped. Evaluation: the images in their order, central squares, every image once. ``batch`` is
    global: of each global batch, rank ``rank`` of ``world`` gets its slice, so that the ranks together see what a
    single process would. In evaluation the shares may differ in size and number.

    ``balanced``: of each class as many images an epoch, give or take one; those of small classes come again, and of
    large ones some not, others in the next epoch.

    ``waited`` counts the seconds that the consumer waited for batches; the consumer may reset it.
    """

    def __init__(
        self,
        images: Images,
        batch: int,
        *,
        train: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        pin_memory: bool = False,
        balanced: bool = False,
    ) -> None:
        self.balanced = balanced
        self.images, self.batch, self.train, self.seed = images, batch, train, seed
        self.rank, self.world, self.workers, self.pin_memory = rank, world, workers, pin_memory
        self.waited = 0.0
        self.random_boxes = train and images.framing.crop.kind == "resized"
        self._check()
        self.steps_per_epoch = len(images) // batch if train else -(-len(images) // batch)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of ``epoch``, beginning with step ``start_step`` (to resume within it).

        Raises: RepFoldError when a picture that is not cached cannot be decoded.
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise RepFoldError(f"start_step {start_step} is not within the epoch's {self.steps_per_epoch} steps.")
        order_N = self._order(epoch)
        steps = [step for step in range(start_step, self.steps_per_epoch) if len(self._share(order_N, step))]
        if self.images.square and (stacked_MHWC := self.images.stacked_MHWC) is not None:
            yield from self._indexed(stacked_MHWC, order_N, steps)
        else:
            yield from self._rendered(epoch, order_N, steps)

    def _indexed(self, stacked_MHWC: torch.Tensor, order_N: np.ndarray, steps: list[int]) -> Iterator[Batch]:
        for step in steps:
            began = time.perf_counter()
            share = self._share(order_N, step)
            rows = torch.from_numpy(self.images.rows_N[share])
            x_NHWC = stacked_MHWC[rows]
            x_NHWC = x_NHWC.pin_memory() if self.pin_memory else x_NHWC
            batch = Batch(x_NHWC.permute(0, 3, 1, 2), self.images.labels[torch.from_numpy(share)])
            self.waited += time.perf_counter() - began
            yield batch

    def _rendered(self, epoch: int, order_N: np.ndarray, steps: list[int]) -> Iterator[Batch]:
        # A pool an epoch: nothing is left running when the consumer stops early, and of pictures that are decoded on
        # their first use the first epoch has more to do than the others.
        with ThreadPoolExecutor(self._workers(), thread_name_prefix="repfold-loader") as pool:
            remaining = iter(steps)
            ahead = deque(self._begin(pool, epoch, order_N, step) for step in islice(remaining, BATCHES_AHEAD))
            try:
                while ahead:
                    began = time.perf_counter()
                    batch = _complete(ahead.popleft())
                    self.waited += time.perf_counter() - began
                    ahead.extend(self._begin(pool, epoch, order_N, step) for step in islice(remaining, 1))
                    yield batch
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, pool: ThreadPoolExecutor, epoch: int, order_N: np.ndarray, step: int) -> _Pending:
        share = self._share(order_N, step)
        side, channels = self.images.framing.image_size, self.images.framing.channels
        x_NHWC = torch.empty(len(share), side, side, channels, dtype=torch.uint8, pin_memory=self.pin_memory)
        pixels_NHWC = x_NHWC.numpy()
        boxes_N4 = self._boxes(epoch, step, share)

        def fill(first: int, last: int) -> None:
            for position in range(first, last):
                picture_HWC = self.images[int(share[position])]
                if boxes_N4 is not None:
                    picture_HWC = cut(picture_HWC, boxes_N4[position], side)
                pixels_NHWC[position] = picture_HWC

        chunk = -(-len(share) // self._workers())
        spans = [(first, min(first + chunk, len(share))) for first in range(0, len(share), chunk)]
        tasks = [pool.submit(fill, first, last) for first, last in spans]
        labels = self.images.labels[torch.from_numpy(share)]
        return _Pending(x_NHWC.permute(0, 3, 1, 2), labels, tasks)

    def _boxes(self, epoch: int, step: int, share: np.ndarray) -> np.ndarray | None:
        if self.images.square:
            return None
        framing = self.images.framing
        sizes_N2 = self.images.sizes_M2[self.images.rows_N[share]]
        if not self.random_boxes:
            return centre_boxes(sizes_N2, framing.image_size, framing.resize)
        # Drawn for the whole global batch, then shared out: the same whatever the number of ranks.
        uniforms = seeding.stream(self.seed, seeding.CROP, epoch, step).random((self.batch, UNIFORMS_PER_BOX))
        first = self.rank * (self.batch // self.world)
        return random_boxes(sizes_N2, uniforms[first : first + len(share)], framing.crop)

    def _workers(self) -> int:
        # Cutting crops from memory is cheap, and the processors are wanted for training; decoding is not cheap.
        if self.workers or self.images.decoded:
            return self.workers or 1
        return max(1, (os.cpu_count() or 1) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))

    def _order(self, epoch: int) -> np.ndarray:
        if not self.train:
            return np.arange(len(self.images))
        draw = seeding.stream(self.seed, seeding.ORDER, epoch)
        if self.balanced:
            return balanced_order(self.images.labels.numpy(), draw)
        return draw.permutation(len(self.images))

    def _share(self, order_N: np.ndarray, step: int) -> np.ndarray:
        whole = order_N[step * self.batch : (step + 1) * self.batch]
        per_rank = -(-len(whole) // self.world)
        return whole[self.rank * per_rank : (self.rank + 1) * per_rank]

    def _check(self) -> None:
        count, batch, world = len(self.images), self.batch, self.world
        if batch < 1:
            raise RepFoldError(f"The batch is {batch}; it must be at least 1 image.")
        if not 0 <= self.rank < world:
            raise RepFoldError(f"Rank {self.rank} is not one of the {world} processes (0..{world - 1}).")
        if self.train and batch % world:
            raise RepFoldError(
                f"The global batch of {batch} images cannot be shared equally among {world} processes. "
                f"Use a multiple of {world}, such as {-(-batch // world) * world}."
            )
        if self.train and count < batch:
            raise RepFoldError(
                f"There are {count} training images, fewer than one batch of {batch}. "
                f"Use a batch of at most {count}, or more images."
            )
        if self.random_boxes and self.images.square:
            raise RepFoldError(
                "These images are cut to the square that evaluation sees: there is nothing left to crop at random. "
                "Train on the training part, or open the source with another crop than 'resized'."
            )


def balanced_order(labels_N: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return N positions in random order, as many of each class, give or take one.

    No image comes once more than another of its class.
    """
    classes = draw.permutation(np.unique(labels_N))
    quotas = [len(part) for part in np.array_split(np.arange(len(labels_N)), len(classes))]
    chosen = []
    for label, quota in zip(classes, quotas, strict=True):
        own = np.flatnonzero(labels_N == label)
        rounds = -(-quota // len(own))
        chosen.append(np.concatenate([draw.permutation(own) for _ in range(rounds)])[:quota])
    return draw.permutation(np.concatenate(chosen))


def _complete(pending: _Pending) -> Batch:
    try:
        for task in pending.tasks:
            task.result()
    except BrokenImageError as error:
        raise RepFoldError(
            f"{error} Not every picture is decoded before training: not those of a set too large to be cached, nor "
            "those that decoded once before. "
            "Repair the file, then go on with --resume; or remove it and start again."
        ) from error
    return Batch(pending.x_NCHW, pending.labels)
