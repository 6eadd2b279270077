"""One update of the weights: what training, the learning-rate range test and benchmarks share."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from repfold.data import Batch
from repfold.optim.averages import Average
from repfold.train.averaging import Averaging
from repfold.train.batches import BatchTransform
from repfold.train.head_first import HeadFirst
from repfold.train.max_norm import constrain
from repfold.train.objective import Objective, seen_top1
from repfold.train.position import Position

# Keeps the random numbers of network layers (dropout) apart from those that begin the weights.
_LAYERS = 1


class RunAverage(Average):
    """The average of a run's weights, taken when its settings say."""

    def __init__(self, network: nn.Module, settings: Averaging) -> None:
        super().__init__(network, decay=settings.decay)
        self.settings = settings

    def after_step(self, network: nn.Module, progress: float) -> None:
        """Take the weights in after a step that began at the share ``progress`` of the run, if steps then count."""
        if not self.settings.each_epoch and progress >= self.settings.start:
            self.update(network)

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        """Take the weights in after an epoch that ended at the share ``progress`` of the run, if epochs then count."""
        if self.settings.each_epoch and progress > self.settings.start:
            self.update(network)


@dataclass(frozen=True)
class StepParts:
    """What an update needs and changes.

    Attributes:
        forward: what is called: ``network`` itself, its branches folded online, or DistributedDataParallel around it.
        transform: turns a batch of uint8 images into input and targets, on the device.
        max_norm: the longest that a convolution's filter may be after an update; 0: no limit.
        head_first: trains the classifier alone at first; None: all from the beginning.
    """

    network: nn.Module
    forward: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    objective: Objective
    transform: BatchTransform
    steps_per_epoch: int
    average: RunAverage | None = None
    max_norm: float = 0.0
    head_first: HeadFirst | None = None


def step(parts: StepParts, batch: Batch, position: Position, lr: float, *, progress: float = 0.0) -> Tensor:
    """Make the update at ``position``, at the learning rate ``lr``.

    Everything random is a function of the seed of ``parts.transform`` and of ``position``. Seeds the global random
    numbers.

    Args:
        progress: the share of the run that is done, for augmentations that grow with it and averages that begin late.

    Returns: float32 [2], on the device and without gradient: the loss before the update, and the share of the batch
        that was classified right.
    """
    machine = parts.transform.machine
    index = position.index(parts.steps_per_epoch)
    _seed_layers(parts.transform.settings.seed, index, parts.transform.ranks.rank)
    for group in parts.optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    if parts.head_first is not None:
        parts.head_first.before(index)
    x_NCHW, targets = parts.transform(batch, position.epoch, position.step, progress)
    with machine.autocast():
        outputs = parts.forward(x_NCHW)
    loss = parts.objective(outputs, targets, x_NCHW)
    parts.optimizer.zero_grad()
    parts.scaler.scale(loss).backward()
    if parts.head_first is not None:
        parts.head_first.drop_gradients(index)
    parts.scaler.step(parts.optimizer)
    parts.scaler.update()
    if parts.max_norm:
        constrain(parts.network, parts.max_norm)
    if parts.average is not None:
        parts.average.after_step(parts.network, progress)
    return torch.stack([loss.detach().float(), seen_top1(outputs, targets)])


def _seed_layers(seed: int, index: int, rank: int) -> None:
    """Seed the global random numbers for one update of one process.

    What layers such as dropout draw is then a function of the position in the training, so that a resumed run draws the
    same without any state of generators in its checkpoint.
    """
    word = int(np.random.SeedSequence(seed, spawn_key=(_LAYERS, index, rank)).generate_state(1)[0])
    torch.manual_seed(word)
    random.seed(word)
    np.random.seed(word)
