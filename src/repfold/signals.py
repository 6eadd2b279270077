"""The signals that ask a process to stop, and what they do where there is no step to finish: they end it in good order.

``train.stopping`` answers them within a training's steps, where a checkpoint can be written first.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, kill, the terminal that closes, Slurm's notice before the time is up, and a limit of processor time.
KNOWN = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")
    if name in signal.Signals.__members__
)
# Those with which someone who waits asks again. SIGXCPU comes every second once its limit is reached.
_URGENT = frozenset({signal.SIGINT, signal.SIGTERM})
# Seconds within which another signal is the same wish: torchrun passes on to its processes a Ctrl-C that these have
# already had from the terminal.
_PATIENCE = 1.0


class Interrupted(BaseException):
    """A signal arrived where nothing is to be finished first. ``status``: what is done and what is not, if known.

    No Exception, as KeyboardInterrupt is none: what handles the failures of a command must not take it for one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.status = ""

    @property
    def exit_code(self) -> int:
        """The shell's: 128 + number."""
        return 128 + self.number

    def __str__(self) -> str:
        return f"Stopped by {signal.Signals(self.number).name}."


class Request:
    """Which signal asked first, or 0; and whether someone then asked again, and urgently."""

    def __init__(self) -> None:
        self.signal = 0
        self._urged_at = 0.0

    def note(self, number: int) -> bool:
        """Take note of a signal; return whether it is a wish repeated, which has waited long enough."""
        self.signal = self.signal or number
        now, before = time.monotonic(), self._urged_at
        if number in _URGENT and not before:
            self._urged_at = now
        return number in _URGENT and before > 0 and now - before > _PATIENCE


def asked_to_stop() -> tuple[int, ...]:
    """The signals to answer: those of this system, except any that the parent process set to be ignored (nohup).

    None outside of the main thread, where Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return ()
    return tuple(int(number) for number in KNOWN if signal.getsignal(number) not in (signal.SIG_IGN, None))


_noted = Request()


@contextmanager
def interrupting() -> Iterator[None]:
    """Within the block a signal raises Interrupted, once; asked again, a while later, the system's default acts."""
    global _noted
    outer, _noted = _noted, Request()
    before = {number: signal.getsignal(number) for number in asked_to_stop()}

    def interrupt(number: int, frame: FrameType | None) -> None:
        first = not _noted.signal
        if _noted.note(number):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if first:  # the others must not break into the clearing up
            raise Interrupted(number)

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _noted = outer


def look() -> None:
    """Raise Interrupted once more if a signal was noted, for whoever called may have lost the first.

    An exception that a handler raises goes nowhere when Python happens to be in a callback of the garbage collector.
    """
    if _noted.signal:
        raise Interrupted(_noted.signal)
