"""What holds for every test."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports PyTorch: one thread in each worker, and in the processes that it starts. Two workers of two
# threads on two cores wait for one another, spinning, for half of the time. Who tests threads asks for them.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Begun first, so that no worker is left with one of them when the others have nothing more to do.
LONGEST = ("test_readme.py", "test_kills.py", "test_random_programs.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, each whole."""
    order = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Leave what has been imported to itself: looking through it for garbage is a fifth of the time of small tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def answered_interrupts():
    """Ctrl-C and the closing of a terminal are answered, here and in processes started from here, as by a shell's own
    command.

    A script's background commands are started with the one ignored, nohup's with the other, and a process leaves it so.
    """
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Leave the next test one thread, whatever this one asked PyTorch for."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _caches_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what RepFold learns of image files out of the user's cache, and the user's out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
