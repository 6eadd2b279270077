"""One trial in a process of its own: claimed, trained or gone on with, watched, and its result written last."""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.study import store as stores
from repfold.study.code import torch_version
from repfold.study.order import Order
from repfold.study.store import Failure, Store
from repfold.study.trial import Trial, told
from repfold.study.watched import OrphanedError, Trained, train_watched
from repfold.train import recipe_file
from repfold.train.run_lock import RunLostError, TakenError
from repfold.train.stopping import Stopped

# What only going on with a training needs, and what its networks are; a study keeps neither.
_TO_GO_ON = (run_files.CHECKPOINT, run_files.PREVIOUS_CHECKPOINT, run_files.PREVIOUS_BEST)
_NETWORKS = (run_files.BEST,)

# How an attempt ended, with which the worker's last message begins.
DONE, FOUND, FAILED, TAKEN, STOPPED = "done", "found", "failed", "taken", "stopped"


def run(order: Order, pipe: Connection) -> None:
    """Carry out ``order``; tell how far it is, and at last how it ended, through ``pipe``."""
    os.environ["OMP_NUM_THREADS"] = str(order.threads)
    if order.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.gpus
    torch.set_num_threads(order.threads)
    told_last: tuple[Any, ...] = (STOPPED,)
    try:
        told_last = attempt(order, pipe)
    except OrphanedError:
        return
    except KeyboardInterrupt:  # Ctrl-C, before the first step
        pass
    with suppress(OSError):
        pipe.send(told_last)


def attempt(order: Order, pipe: Connection | None) -> tuple[Any, ...]:
    """Train the trial of ``order`` unless it is finished; return how it ended, and what is to be known of that."""
    store = Store(order.store, order.code)
    try:
        with store.claim(order.trial.key):
            if (finished := store.finished(order.trial)) is not None:
                return FOUND, finished.name
            directory = store.directory(order.trial)
            _train(order, directory, pipe)
            return DONE, directory.name
    except TakenError:
        return (TAKEN,)
    except Stopped:
        return (STOPPED,)
    except (OrphanedError, RunLostError):
        raise
    except Exception as error:
        plain = isinstance(error, RepFoldError | OSError | MemoryError)
        text = str(error) if plain else f"{type(error).__name__}: {error}"
        give_up(order, text, traceback.format_exc())
        return FAILED, text


def _train(order: Order, directory: Path, pipe: Connection | None) -> None:
    began = time.perf_counter()
    directory.mkdir(parents=True, exist_ok=True)
    with _printing_into(directory / stores.LOG):
        trained = _by_its_processes(order, directory, pipe)
    content = {
        "arm": order.trial.arm,
        "seed": order.trial.seed,
        "recipe": told(order.trial.recipe),
        "code": {"torch": torch_version(), "files": trained.code},
        **trained.measured,
        "seconds": trained.seconds,
        "overhead": time.perf_counter() - began - trained.from_start,
        "threads": order.threads,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    stores.write_finished(directory, content)
    _clear(directory, keep=order.keep or order.trial.keeps_weights)


def give_up(order: Order, why: str, trace: str = "") -> None:
    """Write why the trial of ``order`` failed, if the disk takes it; whoever asked for the trial is told besides."""
    directory = Store(order.store, order.code).directory(order.trial)
    recipe = order.trial.recipe
    with suppress(OSError, RepFoldError):
        recipe_file.write(recipe, directory / run_files.RECIPE)
        stores.write_failure(directory, Failure(why, command_of(order.trial, directory), trace))


def _by_its_processes(order: Order, directory: Path, pipe: Connection | None) -> Trained:
    if order.trial.processes == 1:
        return train_watched(order, directory, pipe)
    from repfold.study.together import train_together

    return train_together(order, directory, pipe)


def command_of(trial: Trial, directory: Path) -> str:
    """Return what to type to train ``trial`` alone, and see how it fails."""
    several = ["torchrun", "--standalone", "--nproc-per-node", str(trial.processes), "-m"]
    words = [
        *(several if trial.processes > 1 else []),
        "repfold",
        "train",
        "--recipe",
        str(directory / run_files.RECIPE),
        "--no-finish",
        "--out",
        "runs/retry",
    ]
    return shlex.join([*words, *(["--trust"] if ":" in trial.recipe.model else [])])


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
