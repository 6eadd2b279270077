"""A training by several processes, as ``torchrun`` starts them: by its agent, which ends all when one fails."""

from __future__ import annotations

import os
import signal
import uuid
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from repfold.errors import RepFoldError
from repfold.study.order import Order
from repfold.study.watched import OrphanedError, Trained, train_watched
from repfold.train.distributed import ELSEWHERE
from repfold.train.stopping import Stopped


def train_together(order: Order, directory: Path, pipe: Connection | None) -> Trained:
    """Do what ``train_watched`` does by the processes of the trial, on this machine.

    Where one of them is killed, so is this one, and whoever runs the trial begins it again.

    Raises: RepFoldError with what the first that failed says; Stopped when they were asked to stop; OrphanedError.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=order.trial.processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        # A process of the pool is a fork of one that has done nothing but import, and so may its own be.
        start_method="spawn" if order.code is None else "fork",
    )
    try:
        told: dict[int, Trained] = elastic_launch(config, _one)(order, directory, pipe)
    except SignalException as stopped:
        raise Stopped(int(stopped.sigval), str(stopped)) from stopped
    except ChildFailedError as failed:
        if (number := _killed_by(failed)) is not None:
            signal.raise_signal(number)
        kind, text = _reason(failed)
        if kind == Stopped.__name__:
            raise Stopped(0, text) from failed
        if kind == OrphanedError.__name__:
            raise OrphanedError from failed
        raise RepFoldError(text if kind == RepFoldError.__name__ else f"{kind}: {text}") from failed
    return told[0]


def _one(order: Order, directory: Path, pipe: Connection | None) -> Trained:
    torch.set_num_threads(order.threads)
    return train_watched(order, directory, pipe, leads=os.environ["RANK"] == "0")


def _killed_by(failed: ChildFailedError) -> int | None:
    """The signal that one of the processes was killed by; the agent itself ends the others by SIGTERM."""
    numbers = [-failure.exitcode for failure in failed.failures.values() if failure.exitcode < 0]
    return next((number for number in numbers if number != signal.SIGTERM), None)


def _reason(failed: ChildFailedError) -> tuple[str, str]:
    """Return kind and text of the error that came first, not of a process that stopped because of another."""
    failures = sorted(failed.failures.values(), key=lambda failure: failure.timestamp)
    told = [failure.message for failure in failures]
    texts = [str(message["message"] if isinstance(message, dict) else message) for message in told]
    first = next((text for text in texts if not text.endswith(ELSEWHERE)), texts[0])
    kind, _, text = first.partition(": ")
    return kind, text
