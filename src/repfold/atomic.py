"""Files are written whole or not at all: into a temporary neighbour, flushed to disk, then renamed over the target."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from repfold.errors import NotWritten

# The files that this process has completed, in their order: what to tell when it is stopped before the others.
completed: dict[Path, None] = {}


def _told(replace: Callable[..., AbstractContextManager[Path]]) -> Callable[..., AbstractContextManager[Path]]:
    """``replace``, whose system errors become the user's, and whose files are noted when they are complete."""

    @contextmanager
    @functools.wraps(replace)
    def replacing(path: str | os.PathLike[str], **options: Any) -> Iterator[Path]:
        try:
            with replace(path, **options) as temporary:
                yield temporary
        except NotWritten:
            raise
        except OSError as error:
            raise NotWritten(error.errno, error.strerror or str(error), str(path)) from error
        completed[Path(path)] = None

    return replacing


@_told
@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any error it is removed.

    Raises: OSError when the directory cannot be written or the disk is full; ``path`` is then as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, since some writers choose the format by it.
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
