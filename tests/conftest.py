"""What holds for every test."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def answered_interrupts():
    """Ctrl-C is answered, here and in processes started from here, as by a shell's own command.

    A script's background commands are started with it ignored, and a process then leaves it so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
