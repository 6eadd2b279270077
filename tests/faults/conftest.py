"""Faults of the disk, put under whatever writes a file: Python, PyTorch's archive writer, safetensors, Pillow alike."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Faults:
    """Context managers, each of which lets one thing go wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    @contextmanager
    def full(self, size: int) -> Iterator[None]:
        """No file takes a byte."""
        with self._at_most(0):
            yield

    @contextmanager
    def torn(self, size: int) -> Iterator[None]:
        """Files take half of ``size``; the write that goes beyond is done in part, and the next one fails."""
        with self._at_most(size // 2):
            yield

    @contextmanager
    def failing_sync(self, size: int) -> Iterator[None]:
        """The disk cannot keep what it took."""
        sync = os.fsync

        def fail(descriptor: int) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(descriptor)

        with self._patch.context() as patch:
            patch.setattr(os, "fsync", fail)
            yield

    @contextmanager
    def failing_rename(self, size: int) -> Iterator[None]:
        """The finished file cannot take its place."""

        def fail(*paths: Any, **named: Any) -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        with self._patch.context() as patch:
            for name in ("replace", "rename"):
                patch.setattr(os, name, fail)
            yield

    @contextmanager
    def _at_most(self, size: int) -> Iterator[None]:
        # The system's own limit, under which writes fail as they do on a full disk, whoever's library writes.
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def faults(monkeypatch) -> Faults:
    return Faults(monkeypatch)
