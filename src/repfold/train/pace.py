"""How fast a run will be: a few of its steps and evaluations, made on its own data and then undone."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from repfold.data import Batch
from repfold.train.assemble import Assembly
from repfold.train.evaluation import evaluate
from repfold.train.events import Pace
from repfold.train.position import Position
from repfold.train.step import StepParts, step

# Steps to measure after a first one, which also chooses kernels and takes memory; fewer where they take long.
STEPS = 3
_ENOUGH_SECONDS = 6.0
_EVALUATED = 2  # batches


@dataclass(frozen=True)
class Speed:
    """Seconds of a step, and of evaluating an image."""

    step: float
    evaluated_image: float


def measure(run: Assembly) -> Pace:
    """Return how long a step and the evaluation after an epoch take, on the images that the run begins with.

    The run is left as it was, to the bit: weights, statistics, optimizer, averages, gradients. Only for a run of one
    process.
    """
    speed = rehearse(run)
    evaluated = len(run.loaders.val.images) + len(run.loaders.train_sample.images)
    return Pace(speed.step, evaluated * speed.evaluated_image)


def rehearse(run: Assembly) -> Speed:
    """Time a few steps and a little evaluation, and undo them."""
    waited = run.loaders.train.waited
    with unchanged(run.parts):
        seconds = [_step_seconds(run, batch, position) for batch, position in _first_batches(run)]
        evaluated = _evaluation_seconds(run)
    run.loaders.train.waited = waited
    return Speed(statistics.median(seconds[1:]), evaluated)  # a step that another process delayed is not the rule


def batches(run: Assembly) -> Generator[tuple[Batch, Position]]:
    """Yield the training batches with their positions, epoch after epoch."""
    for epoch in itertools.count():
        for number, batch in enumerate(run.loaders.train.epoch(epoch)):
            yield batch, Position(epoch, number)


@contextmanager
def unchanged(parts: StepParts) -> Iterator[None]:
    """Undo on leaving what steps change. Buffers that a network does not save are put back too."""
    before = _Before.of(parts)
    try:
        yield
    finally:
        before.restore(parts)


@dataclass(frozen=True)
class _Before:
    tensors: list[tuple[Tensor, Tensor]]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: dict[str, Any] | None

    @classmethod
    def of(cls, parts: StepParts) -> _Before:
        network = parts.network
        return cls(
            [(tensor, tensor.detach().clone()) for tensor in (*network.parameters(), *network.buffers())],
            copy.deepcopy(parts.optimizer.state_dict()),
            copy.deepcopy(parts.scaler.state_dict()),
            copy.deepcopy(parts.average.state_dict()) if parts.average is not None else None,
        )

    @torch.no_grad()
    def restore(self, parts: StepParts) -> None:
        for tensor, value in self.tensors:
            tensor.copy_(value)
        parts.optimizer.load_state_dict(self.optimizer)
        parts.optimizer.zero_grad()
        if self.scaler:  # empty where nothing is scaled
            parts.scaler.load_state_dict(self.scaler)
        if parts.average is not None and self.average is not None:
            parts.average.load_state_dict(self.average)


def _first_batches(run: Assembly) -> Iterator[tuple[Batch, Position]]:
    """As many as are to be measured: at least two, at most 1 + STEPS."""
    began = time.perf_counter()
    with closing(batches(run)) as endless:
        for number, found in enumerate(endless):
            yield found
            if number == STEPS or (number and time.perf_counter() - began > _ENOUGH_SECONDS):
                return


def _step_seconds(run: Assembly, batch: Batch, position: Position) -> float:
    began = time.perf_counter()
    lr = run.settings.lr(0, run.steps_per_epoch)
    float(step(run.parts, batch, position, lr)[0])  # which waits for a GPU
    return time.perf_counter() - began


def _evaluation_seconds(run: Assembly) -> float:
    """The time of an image in a few validation batches."""
    images, batch = run.loaders.val.images, run.loaders.val.batch
    loader = run.source.loader(images.sample(_EVALUATED * batch, run.settings.seed), batch, train=False)
    seconds = 0.0
    for _ in range(2):  # of which the first chooses kernels
        began = time.perf_counter()
        evaluate(
            run.parts.network,
            loader,
            run.parts.transform.preprocessing,
            run.machine.device,
            context=run.machine.autocast,
            channels_last=run.machine.channels_last,
        )
        seconds = time.perf_counter() - began
    return seconds / len(loader.images)
