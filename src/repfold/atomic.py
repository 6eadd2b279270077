"""Files are written whole or not at all: into a temporary neighbour, flushed to disk, then renamed over the target."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from repfold.errors import NotWritten

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

# The errors of file systems without locks, or that do not flush directories.
_NOT_OFFERED = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

# The files that this process has completed, in their order: what to report when it is stopped before the others.
completed: dict[Path, None] = {}


@contextmanager
def replacing(path: str | os.PathLike[str], *, previous: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any error it is removed.

    ``previous``: where in the same directory the file that is replaced goes, instead of being deleted. Where there are
    no hard links, a process that is killed between the two leaves ``previous`` alone.

    Raises: NotWritten when the directory cannot be written, the disk is full, or ``path`` is there and no ordinary file
    (renaming over a device would put a file in its place); ``path`` is then as it was.
    """
    target = Path(path)
    try:
        with _temporary_beside(target, previous) as temporary:
            yield temporary
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(error.errno, error.strerror or str(error), str(target)) from error
    completed[target] = None


@contextmanager
def _temporary_beside(target: Path, previous: str | os.PathLike[str] | None) -> Iterator[Path]:
    if target.exists() and not target.is_file():
        number = errno.EISDIR if target.is_dir() else errno.ENXIO
        raise OSError(number, "Is a directory" if target.is_dir() else "Not an ordinary file", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, since some writers choose the format by it.
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
    temporary = Path(name)
    try:
        with suppress(OSError):
            lock(descriptor)  # so that ``remove_abandoned`` leaves it alone
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        if previous is not None and target.exists():
            keep(target, Path(previous))
        temporary.replace(target)
        sync_directory(target.parent)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def keep(path: Path, previous: Path) -> None:
    """Make ``previous`` a second name of ``path``: a hard link where the file system has them, else by renaming."""
    link = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        link.hardlink_to(path)
    except OSError:
        path.replace(previous)
        return
    link.replace(previous)
    link.unlink(missing_ok=True)  # a rename among links to one file does nothing


def sync_directory(directory: Path) -> None:
    """Flush the names in ``directory`` to disk, without which a rename does not survive a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Lock an open file for this process until it closes it, or ends in whatever way; return whether it was free.

    Raises: OSError where the file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no flock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_abandoned(directory: Path, names: Iterable[str]) -> list[Path]:
    """Remove what processes that were killed while they wrote a file of ``names`` left in ``directory``; return it.

    What another process is writing at this moment stays.
    """
    stems = [(re.escape(Path(name).stem), re.escape(Path(name).suffix)) for name in names]
    ours = re.compile("|".join(rf"\.{stem}\.[a-z0-9_]{{8}}({suffix})?(\.data)?" for stem, suffix in stems))
    return [path for path in directory.iterdir() if ours.fullmatch(path.name) and _removed(path)]


def _removed(path: Path) -> bool:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if not lock(descriptor):
                return False
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        return True
    return False


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: object, *, indent: int | None = None) -> None:
    """Write ``content`` as JSON to ``path`` atomically."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
