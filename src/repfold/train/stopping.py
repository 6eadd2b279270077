"""Stopping in good order: a signal is noted, the step in progress finishes, and the loop stops at its next look."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from repfold.signals import Request, asked_to_stop


class Stopped(Exception):
    """Training stopped because of a signal, after writing a checkpoint. ``exit_code`` is the shell's: 128 + number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


@contextmanager
def on_signals() -> Iterator[Request]:
    """Within the block the signals that ask to stop are noted instead of acted upon; see ``repfold.signals``.

    SIGINT or SIGTERM once more, a while later, acts as usual; so does, when the block ends well, a signal that was
    noted too late for the loop to see it. Outside of the main thread, where Python delivers no signals, nothing is
    ever noted.
    """
    request = Request()
    before = {number: signal.getsignal(number) for number in asked_to_stop()}

    def note(number: int, frame: FrameType | None) -> None:
        if request.note(number):
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.signal:
        signal.raise_signal(request.signal)
