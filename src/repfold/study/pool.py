"""A pool of processes on this machine: a fresh one for each trial, so many at a time, begun again when it is killed.

Nothing is scheduled here beyond the order in which trials are given; a cluster is Ray's (see ``on_ray``).
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from repfold.study import worker
from repfold.study.events import ENDS, Ended, Event, Progress, Waiting
from repfold.study.order import Order
from repfold.study.watched import PROGRESS

ATTEMPTS = 3  # of a trial whose process is killed
_LOOK_EVERY = 1.0  # seconds, at what other runners do
_GRACE = 60.0  # seconds to write a checkpoint in

# Imported once, by the process of which every trial's is a fork: that saves each the seconds that PyTorch takes.
_PRELOADED = ["repfold.study.worker", "repfold.train.training", "repfold.train.repopt"]


@dataclass
class _Running:
    order: Order
    slot: int
    process: BaseProcess
    pipe: Connection
    last: tuple[Any, ...] = ()
    attempts: int = 1
    began: float = field(default_factory=time.monotonic)


def run(
    orders: Iterator[Order], slots: Sequence[str], emit: Callable[[Event], None], *, is_free: Callable[[Order], bool]
) -> None:
    """Carry out ``orders``, one in each of ``slots`` at a time, in their order; a slot is the GPUs it has, or "".

    What another runner has taken is waited for, and taken over when that runner dies. ``orders`` is asked for the next
    one only when there is a process for it. ``is_free``: whether nobody has taken an order any more.
    """
    pool = _Pool(slots, emit, is_free)
    try:
        for order in orders:
            pool.begin_when_there_is_room(order)
        pool.drain()
    except BaseException:
        pool.stop()
        raise


class _Pool:
    def __init__(self, slots: Sequence[str], emit: Callable[[Event], None], is_free: Callable[[Order], bool]) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(_PRELOADED)
        self.slots, self.emit, self.is_free = slots, emit, is_free
        self.running: list[_Running] = []
        self.taken: deque[Order] = deque()

    def begin_when_there_is_room(self, order: Order) -> None:
        while len(self.running) >= len(self.slots):
            self._listen()
        self._begin(order)

    def drain(self) -> None:
        """Wait for what runs, and for what others run."""
        while self.running or self.taken:
            for _ in range(len(self.taken)):
                order = self.taken.popleft()
                if len(self.running) < len(self.slots) and self.is_free(order):
                    self._begin(order)
                else:
                    self.taken.append(order)
            if self.taken and not self.running:
                self.emit(Waiting(len(self.taken)))
                time.sleep(_LOOK_EVERY)
            else:
                self._listen()

    def stop(self) -> None:
        """Ask all processes to write a checkpoint and end; end those that do not."""
        for one in self.running:
            one.process.terminate()
        deadline = time.monotonic() + _GRACE
        for one in self.running:
            one.process.join(max(0.1, deadline - time.monotonic()))
            if one.process.is_alive():
                one.process.kill()
                one.process.join()
            one.pipe.close()

    def _begin(self, order: Order, attempts: int = 1) -> None:
        taken = {one.slot for one in self.running}
        slot = next(index for index in range(len(self.slots)) if index not in taken)
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=worker.run, args=(replace(order, gpus=self.slots[slot]), theirs))
        process.start()
        theirs.close()
        self.running.append(_Running(order, slot, process, ours, attempts=attempts))
        self.emit(Progress(order.trial, 0.0, order.trial.recipe.epochs, None, None))

    def _listen(self) -> None:
        """Wait for the next word of a process, or its end."""
        ready = set(wait([one.pipe for one in self.running], timeout=_LOOK_EVERY))
        for one in [one for one in self.running if one.pipe in ready]:
            try:
                message = one.pipe.recv()
            except (EOFError, OSError):
                self._end(one)
                continue
            if message[0] == PROGRESS:
                self.emit(Progress(one.order.trial, *message[1:]))
            else:
                one.last = message

    def _end(self, one: _Running) -> None:
        self.running.remove(one)
        one.pipe.close()
        one.process.join()
        how = one.last[0] if one.last else ""
        if how == worker.TAKEN:
            self.taken.append(one.order)
        elif how in ENDS:
            self.emit(Ended(one.order.trial, ENDS[how], one.last[1], time.monotonic() - one.began))
        elif one.attempts < ATTEMPTS:
            self._begin(one.order, one.attempts + 1)
        else:
            text = f"Its process ended {one.attempts} times before the trial did: {_why(one.process.exitcode)}."
            worker.give_up(one.order, text)
            self.emit(Ended(one.order.trial, "failed", text, time.monotonic() - one.began))


def _why(code: int | None) -> str:
    if code == 0:
        return "it was asked to stop"
    if code is not None and code < 0:
        name = str(code)
        with suppress(ValueError):
            name = signal.Signals(-code).name
        return f"killed by {name}" + (", perhaps for want of memory: use fewer --jobs" if name == "SIGKILL" else "")
    return f"exit code {code}, with no word"
