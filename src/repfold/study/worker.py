"""One trial in a process of its own: claimed, trained or gone on with, watched, and its result written last."""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.study import store as stores
from repfold.study.code import Code, Watch, here, torch_version
from repfold.study.store import Failure, Store
from repfold.study.trial import Trial, told
from repfold.train import recipe_file, train
from repfold.train.events import EpochDone, Event, Started, Stepped
from repfold.train.recipe import Recipe
from repfold.train.run_lock import RunLostError, TakenError
from repfold.train.stopping import Stopped

_EVERY = 0.5  # seconds between two reports of progress
# What only going on with a training needs, and what its networks are; a study keeps neither.
_TO_GO_ON = (run_files.CHECKPOINT, run_files.PREVIOUS_CHECKPOINT, run_files.PREVIOUS_BEST)
_NETWORKS = (run_files.BEST,)

# How an attempt ended, with which the worker's last message begins.
DONE, FOUND, FAILED, TAKEN, STOPPED = "done", "found", "failed", "taken", "stopped"
PROGRESS = "progress"


class OrphanedError(Exception):
    """Nobody listens any more: whoever asked for the trial was killed."""


@dataclass(frozen=True)
class Order:
    """What a process is to do: a trial, in which store, with how many threads, on which GPUs ("": as they are).

    ``code``: what the runner read of the code that the process has; None where it may have another, which it reads.
    """

    trial: Trial
    store: Path
    threads: int
    gpus: str = ""
    keep: bool = False
    trust: bool = False
    code: Code | None = None


def run(order: Order, pipe: Connection) -> None:
    """Carry out ``order``; tell how far it is, and at last how it ended, through ``pipe``."""
    os.environ["OMP_NUM_THREADS"] = str(order.threads)
    if order.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.gpus
    torch.set_num_threads(order.threads)
    told_last: tuple[Any, ...] = (STOPPED,)
    try:
        told_last = attempt(order, Listener(pipe, order.code))
    except OrphanedError:
        return
    except KeyboardInterrupt:  # Ctrl-C, before the first step
        pass
    with suppress(OSError):
        pipe.send(told_last)


def attempt(order: Order, listen: Listener) -> tuple[Any, ...]:
    """Train the trial of ``order`` unless it is finished; return how it ended, and what is to be known of that."""
    store = Store(order.store, order.code)
    try:
        with store.claim(order.trial.key):
            if (finished := store.finished(order.trial)) is not None:
                return FOUND, finished.name
            directory = store.directory(order.trial)
            return _train(order, directory, listen)
    except TakenError:
        return (TAKEN,)


def _train(order: Order, directory: Path, listen: Listener) -> tuple[Any, ...]:
    began, recipe = time.perf_counter(), order.trial.recipe
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _printing_into(directory / stores.LOG):
            listen.watch.on()
            try:
                # The code and the data are those of the key; what may differ is the number of threads.
                result = train(recipe, directory, resume=True, override=True, trust=order.trust, on_event=listen)
                measured = _measured(order, directory)
            finally:
                listen.watch.off()
    except Stopped:
        return (STOPPED,)
    except (OrphanedError, RunLostError):
        raise
    except Exception as error:
        text = (
            str(error)
            if isinstance(error, RepFoldError | OSError | MemoryError)
            else f"{type(error).__name__}: {error}"
        )
        failure = Failure(text, command_of(recipe, directory), traceback.format_exc())
        with suppress(OSError, RepFoldError):
            recipe_file.write(recipe, directory / run_files.RECIPE)
            stores.write_failure(directory, failure)
        return FAILED, text
    content = {
        "arm": order.trial.arm,
        "seed": order.trial.seed,
        "recipe": told(recipe),
        "code": {"torch": torch_version(), "files": listen.watch.digests()},
        **measured,
        "seconds": sum(record["seconds"] for record in result.records),
        "overhead": time.perf_counter() - began - listen.trained,
        "threads": order.threads,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    stores.write_finished(directory, content)
    _clear(directory, keep=order.keep or order.trial.keeps_weights)
    return DONE, directory.name


def _measured(order: Order, directory: Path) -> dict[str, float]:
    if order.trial.measured != "int8_top1":
        return {}
    from repfold.study.measure import int8_accuracy

    return int8_accuracy(directory, order.trial.recipe, order.threads, trust=order.trust)


def give_up(order: Order, why: str) -> None:
    """Write that the trial of ``order`` failed, for a reason that its process could not tell."""
    directory = Store(order.store, order.code).directory(order.trial)
    recipe = order.trial.recipe
    with suppress(OSError, RepFoldError):
        recipe_file.write(recipe, directory / run_files.RECIPE)
        stores.write_failure(directory, Failure(why, command_of(recipe, directory)))


def command_of(recipe: Recipe, directory: Path) -> str:
    """Return what to type to train a trial alone, and see how it fails."""
    words = ["repfold", "train", "--recipe", str(directory / run_files.RECIPE), "--no-finish", "--out", "runs/retry"]
    return shlex.join([*words, *(["--trust"] if ":" in recipe.model else [])])


class Listener:
    """Hears the events of a training, passes on how far it is, and has the code watched where it may be new."""

    def __init__(self, pipe: Connection | None, code: Code | None) -> None:
        self.pipe, self.watch = pipe, Watch(code or here())
        self.epochs, self.trained, self._told_at, self._began = 0, 0.0, 0.0, time.perf_counter()

    def __call__(self, event: Event) -> None:
        """Take note of an event. Raises: OrphanedError when nobody listens."""
        if isinstance(event, Started):
            self.epochs, self._began = event.epochs, time.perf_counter()
        elif isinstance(event, Stepped):
            if event.step >= event.steps:
                self.watch.on()
            else:
                self.watch.off()
            self._tell(event.epoch + event.step / event.steps, event.loss)
        elif isinstance(event, EpochDone):
            self.trained = time.perf_counter() - self._began
            self._tell(float(event.record["epoch"]), event.record["train_loss"], top1=event.record["val_top1"])

    def _tell(self, epochs: float, loss: float, top1: float | None = None) -> None:
        now = time.perf_counter()
        if self.pipe is None or (top1 is None and now - self._told_at < _EVERY):
            return
        self._told_at = now
        try:
            self.pipe.send((PROGRESS, epochs, self.epochs, loss, top1))
        except OSError as error:
            raise OrphanedError from error


class _printing_into:
    """Within the block what this process prints, its libraries included, goes into a file, removed if empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.before = os.dup(1), os.dup(2)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    def __exit__(self, *ended: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(self.before, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        with suppress(OSError):
            if self.path.stat().st_size == 0:
                self.path.unlink()


def _clear(directory: Path, *, keep: bool) -> None:
    for name in _TO_GO_ON if keep else (*_TO_GO_ON, *_NETWORKS):
        with suppress(OSError):
            (directory / name).unlink(missing_ok=True)
