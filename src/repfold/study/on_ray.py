"""Trials on a Ray cluster: Ray decides where and when, and begins again what died; the store has to be shared storage.

The cluster is the one of RAY_ADDRESS, or that which ``ray start --head`` began on this machine.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from repfold.errors import RepFoldError
from repfold.study import worker
from repfold.study.events import ENDS, Ended, Event
from repfold.study.worker import Listener, Order

_RETRIES = 3  # of a trial whose process or machine dies
_AHEAD = 2  # times the cluster's cores: trials that Ray knows of at a time, so that --hours still has a say
_LOOK_EVERY = 1.0  # seconds


def run(orders: Iterator[Order], emit: Callable[[Event], None], *, gpus: float) -> None:
    """Carry out ``orders`` on the cluster, each on its threads and on ``gpus``.

    Raises: RepFoldError when Ray is not installed, there is no cluster, or it goes away; what is finished is kept.
    """
    ray = _connected()
    task = ray.remote(max_retries=_RETRIES)(carry_out)
    most = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending: dict[Any, tuple[Order, float]] = {}

    def submit(order: Order) -> None:
        pending[task.options(num_cpus=order.threads, num_gpus=gpus).remote(order)] = (order, time.monotonic())

    try:
        for order in orders:
            submit(order)
            while len(pending) >= most:
                _collect(ray, pending, submit, emit)
        while pending:
            _collect(ray, pending, submit, emit)
    except ray.exceptions.RayError as error:
        raise RepFoldError(
            f"The Ray cluster went away: {str(error).splitlines()[0]} What is finished is kept: start the cluster and "
            "give the same command again."
        ) from error
    finally:
        for reference in pending:
            ray.cancel(reference)
        ray.shutdown()


def carry_out(order: Order) -> tuple[Any, ...]:
    """What a process of the cluster does."""
    torch.set_num_threads(order.threads)
    return worker.attempt(order, Listener(None, order.code))


def _connected() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RepFoldError("--on ray takes Ray, which is not installed: pip install 'repfold[ray]'.") from error
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise RepFoldError(
            f"There is no Ray cluster at '{address}': {str(error).splitlines()[0]} Begin one with 'ray start --head', "
            "name one in RAY_ADDRESS, or leave --on ray out."
        ) from error
    return ray


def _collect(
    ray: Any,
    pending: dict[Any, tuple[Order, float]],
    submit: Callable[[Order], None],
    emit: Callable[[Event], None],
) -> None:
    """Take what has come to its end; what another runner has is asked for again."""
    done, _ = ray.wait(list(pending), timeout=_LOOK_EVERY)
    for reference in done:
        order, began = pending.pop(reference)
        how, *what = ray.get(reference)
        if how in ENDS:
            emit(Ended(order.trial, ENDS[how], what[0], time.monotonic() - began))
        else:
            time.sleep(_LOOK_EVERY)
            submit(order)
