"""Stopping in good order: a signal is noted, the step in progress finishes, and the loop stops at its next look."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Seconds within which another signal is the same wish: torchrun passes on to its processes a Ctrl-C that these have
# already had from the terminal.
_PATIENCE = 1.0


class Stopped(Exception):
    """Training stopped because of a signal, after writing a checkpoint. ``exit_code`` is the shell's: 128 + number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Request:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self) -> None:
        self.signal = 0
        self.since = 0.0


@contextmanager
def on_signals() -> Iterator[Request]:
    """Within the block SIGINT and SIGTERM are noted instead of acted upon; one more, a while later, acts as usual.

    Outside of the main thread, where Python delivers no signals, nothing is ever noted.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not request.signal:
            request.signal, request.since = number, now
        elif now - request.since > _PATIENCE:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
