"""Files are written whole or not at all: into a temporary neighbour, flushed to disk, then renamed over the target."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repfold.errors import RepFoldError

# The files that this process has completed, in their order: what to tell when it is stopped before the others.
completed: dict[Path, None] = {}


class NotWritten(OSError, RepFoldError):
    """A file could not be written; the one of that name, if there is one, is as it was."""

    def __str__(self) -> str:
        kept = " What was there before is as it was." if os.path.exists(self.filename) else ""
        return (
            f"{self.filename} could not be written: {self.strerror}.{kept} Make room on the disk, see to the "
            "directory's permissions, or choose another place."
        )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any error it is removed.

    Raises: NotWritten when the directory cannot be written or the disk is full; ``path`` is then as it was.
    """
    target = Path(path)
    try:
        with _temporary_beside(target) as temporary:
            yield temporary
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(error.errno, error.strerror or str(error), str(target)) from error
    completed[target] = None


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
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
