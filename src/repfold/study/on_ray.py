"""Trials on a Ray cluster: Ray decides where and when, and begins again what died; the store has to be shared storage.

The cluster is the one of RAY_ADDRESS, or that which ``ray start --head`` began on this machine.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from repfold import run_files
from repfold.errors import RepFoldError, first_line
from repfold.signals import asked_to_stop
from repfold.study import worker
from repfold.study.events import ENDS, Ended, Event, Progress
from repfold.study.order import Order

_RETRIES = 3  # of a trial whose process or machine dies
_AHEAD = 2  # times the trials that run at a time: what Ray knows of, so that --hours still has a say
_LOOK_EVERY = 1.0  # seconds
_CALLS = 5  # to a head that does not answer
_GRACE = 60.0  # seconds to write a checkpoint in


class Cluster:
    """The cluster that this process is connected to."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        resources = ray.cluster_resources()
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self.head, self.lost = (host, int(port)), False
        self.cores, self.gpus = max(1, int(resources.get("CPU", 1))), int(resources.get("GPU", 0))

    def run(self, orders: Iterator[Order], jobs: int, emit: Callable[[Event], None]) -> None:
        """Carry out ``orders``, of which it is told some more than ``jobs`` at a time; the cluster finds room for them.

        Raises: RepFoldError when the cluster goes away; what is finished is kept.
        """
        tasks = _Tasks(self.ray, emit, 1.0 if self.gpus else 0.0)
        try:
            for order in orders:
                tasks.submit(order)
                while len(tasks.pending) >= _AHEAD * jobs:
                    tasks.collect()
                    self._look()
            while tasks.pending:
                tasks.collect()
                self._look()
        except self.ray.exceptions.RayError as error:
            self.lost = True
            raise _gone(_sentence(error)) from error
        finally:
            if not self.lost:
                tasks.cancel()

    def _look(self) -> None:
        """Raise RepFoldError when the head does not answer: Ray itself would end this process, a minute later."""
        for _ in range(_CALLS):
            with suppress(OSError), socket.create_connection(self.head, timeout=_LOOK_EVERY):
                return
            time.sleep(_LOOK_EVERY)
        self.lost = True
        raise _gone(f"its head at {':'.join(map(str, self.head))} does not answer.")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Connect to the cluster for the duration of the block.

    Raises: RepFoldError when Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise RepFoldError("--on ray takes Ray, which is not installed: pip install 'repfold[ray]'.") from error
    address = os.environ.get("RAY_ADDRESS", "")
    handlers = {number: signal.getsignal(number) for number in asked_to_stop()}
    try:
        _call(address)  # an address where nobody is keeps Ray busy for many minutes
        ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"at '{address}', which RAY_ADDRESS names: {_sentence(error)}" if address else "on this machine."
        raise RepFoldError(
            f"There is no Ray cluster {where} Begin one with 'ray start --head', name another in RAY_ADDRESS, or leave "
            "--on ray out."
        ) from error
    finally:
        for number, handler in handlers.items():  # Ray puts its own in their place
            signal.signal(number, handler)
    found = Cluster(ray)
    try:
        yield found
    finally:
        if found.lost:
            # At this process's end Ray would wait for the head, and its threads crash the process if it does not.
            atexit.register(_leave)
        else:
            ray.shutdown()


def _call(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_CALLS * _LOOK_EVERY).close()


def _leave() -> None:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(2)


def carry_out(order: Order) -> tuple[Any, ...]:
    """What a process of the cluster does."""
    torch.set_num_threads(order.threads)
    return worker.attempt(order, None)


class _Tasks:
    """What Ray has been told to do."""

    def __init__(self, ray: Any, emit: Callable[[Event], None], gpus: float) -> None:
        self.ray, self.emit, self.gpus = ray, emit, gpus
        self.task = ray.remote(max_retries=_RETRIES)(carry_out)
        self.pending: dict[Any, tuple[Order, float]] = {}
        self.epochs: dict[str, int] = {}

    def submit(self, order: Order) -> None:
        processes = order.trial.processes
        told = self.task.options(num_cpus=order.threads * processes, num_gpus=self.gpus * processes).remote(order)
        self.pending[told] = (order, time.monotonic())

    def collect(self) -> None:
        """Take what has come to its end, and tell how far the others are; what another runner has is asked for again.

        Raises: RayError when the cluster has gone.
        """
        done, _ = self.ray.wait(list(self.pending), timeout=_LOOK_EVERY)
        for reference in done:
            order, began = self.pending.pop(reference)
            how, *what = self._outcome(reference, order)
            if how in ENDS:
                self.emit(Ended(order.trial, ENDS[how], what[0], time.monotonic() - began))
            else:
                time.sleep(_LOOK_EVERY)
                self.submit(order)
        if not done:
            self._tell_progress()

    def cancel(self) -> None:
        """Have what is pending write a checkpoint and end."""
        with suppress(self.ray.exceptions.RayError):
            for reference in self.pending:
                self.ray.cancel(reference)
            if self.pending:
                self.ray.wait(list(self.pending), num_returns=len(self.pending), timeout=_GRACE)

    def _outcome(self, reference: Any, order: Order) -> tuple[Any, ...]:
        errors = self.ray.exceptions
        try:
            return tuple(self.ray.get(reference))
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            why = f"Its process ended {_RETRIES + 1} times before the trial did: {_sentence(error)}"
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            why = f"The cluster could not run it: {str(error).strip().splitlines()[-1]}"
        worker.give_up(order, why)
        return worker.FAILED, why

    def _tell_progress(self) -> None:
        """Tell what the trials' records say, which are on storage that this machine sees too."""
        for order, _ in self.pending.values():
            trial = order.trial
            record = next(iter(sorted(order.store.glob(f"{trial.key}-*/{run_files.RECORD}"), key=_changed)[-1:]), None)
            epochs = run_files.epochs_of(record.parent) if record else ()
            if len(epochs) > self.epochs.get(trial.key, 0):
                self.epochs[trial.key] = len(epochs)
                last = epochs[-1]
                told = last.get("train_loss"), last.get("val_top1")
                self.emit(Progress(trial, float(len(epochs)), trial.recipe.epochs, *told))


def _gone(why: str) -> RepFoldError:
    return RepFoldError(
        f"The Ray cluster went away: {why} What is finished is kept: start the cluster and give the same command again."
    )


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _sentence(error: Exception) -> str:
    return first_line(error).rstrip(".") + "."
