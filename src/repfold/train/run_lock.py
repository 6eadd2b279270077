"""One run a directory: a lock that the system frees when its process ends, however it ends.

The lock is the system's own (flock), which NFS and the file systems of clusters pass on to their servers. The file
says in words who holds it: for messages, and for file systems that have no locks.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from repfold import atomic, run_files
from repfold.errors import RepFoldError
from repfold.train import record

# Mounts on which a lock holds among the processes of this machine alone: by kind, by option.
_LOCAL_KINDS = ("fuse", "9p", "virtiofs", "vboxsf")
_LOCAL_OPTIONS = ("local_lock=all", "local_lock=flock", "nolock", "localflock", "nobrl")


class TakenError(RepFoldError):
    """Another process holds the lock."""


class RunLostError(Exception):
    """The directory, or the lock in it, was taken away while the run was writing to it: exit code 1."""

    exit_code = 1


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock.

    ``started``: when it began, as the system counts, so that another process with the same number later is not taken
    for it; "" where unknown.
    """

    host: str
    pid: int
    started: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def elsewhere(self) -> bool:
        """Whether it is a process of another machine."""
        return self.host != socket.gethostname()

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended."""
        return not self.elsewhere and (not _exists(self.pid) or _start_of(self.pid) != self.started)


@dataclass(frozen=True)
class RunLock:
    """A lock that is held on ``path``, through the open file ``descriptor``."""

    path: Path
    descriptor: int

    def check(self) -> None:
        """Raise RunLostError when the directory was deleted or replaced, or the lock was taken from it."""
        directory = self.path.parent
        with suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.stat(self.path), os.fstat(self.descriptor)):
                return
        if directory.is_dir():
            raise RunLostError(
                f"The lock {self.path} was removed while this run was training in {directory}, so another run may be "
                "writing there. This one ends; its last checkpoint is where it was."
            )
        raise RunLostError(
            f"{directory} was deleted while the run was training in it: nothing of the run is left, and there is no "
            "place for what is still to come. Start it again."
        )


@contextmanager
def held(directory: Path) -> Iterator[RunLock]:
    """Within the block no other run writes into ``directory``, which is made if need be.

    What killed runs left half-written in it is removed; directories made in vain are removed again.

    Raises: TakenError, naming who holds the lock, when another process does; RepFoldError when it cannot be written.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    with record.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = _acquire(directory / run_files.LOCK)
    try:
        with suppress(OSError):
            atomic.remove_abandoned(directory, run_files.NAMES)
        yield lock
    finally:
        _release(lock)
        with suppress(OSError):
            for path in made:
                path.rmdir()


def holder_of(directory: Path) -> Holder | None:
    """Return which process trains in ``directory`` at this moment, if one does; nothing is written."""
    try:
        descriptor = os.open(directory / run_files.LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        holder = _read(descriptor)
        return None if _is_free(descriptor, holder) else holder or Holder("this machine", 0, "", "just now")
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> RunLock:
    while True:
        lock = RunLock(path, os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        try:
            _take(lock)
            if os.path.samestat(os.stat(path), os.fstat(lock.descriptor)):
                return lock
        except FileNotFoundError:  # who held it removed it in between, as in the comparison that failed
            pass
        except BaseException:
            os.close(lock.descriptor)
            raise
        os.close(lock.descriptor)


def _take(lock: RunLock) -> None:
    holder = _read(lock.descriptor)
    elsewhere = holder is not None and holder.elsewhere
    if not _is_free(lock.descriptor, holder) or (elsewhere and not _reaches_other_machines(lock.path)):
        removal = f" If you know that it has ended there, remove its lock: rm {lock.path}" if elsewhere else ""
        raise TakenError(
            f"Another run is writing into {lock.path.parent}: {holder or 'a process of this machine'}. Wait until it "
            f"has ended, stop it, or choose another directory (--out).{removal}"
        )
    own = Holder(socket.gethostname(), os.getpid(), _start_of(os.getpid()), time.strftime("%Y-%m-%d %H:%M:%S"))
    os.ftruncate(lock.descriptor, 0)
    os.pwrite(lock.descriptor, json.dumps(asdict(own)).encode(), 0)


def _is_free(descriptor: int, holder: Holder | None) -> bool:
    """Whether nobody else holds the lock; it is then ours, where the file system has locks."""
    try:
        return atomic.lock(descriptor)
    except OSError:
        return holder is None or holder.gone


def _release(lock: RunLock) -> None:
    with suppress(OSError):
        if os.path.samestat(os.stat(lock.path), os.fstat(lock.descriptor)):
            lock.path.unlink()  # while it is held, so that nobody else's is removed
    os.close(lock.descriptor)


def _read(descriptor: int) -> Holder | None:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return Holder(str(found["host"]), int(found["pid"]), str(found["started"]), str(found["since"]))
    except (ValueError, KeyError, TypeError):  # empty, or not yet written
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _start_of(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _reaches_other_machines(path: Path) -> bool:
    """Whether a lock on ``path`` that was free here is free on every machine.

    True of disks of this machine, and of network file systems whose server keeps the locks.
    """
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    parents = {str(parent) for parent in path.resolve().parents}
    within = [mount for mount in mounts if len(mount) > 3 and mount[1] in parents]
    if not within:
        return False
    _, _, kind, options, *_ = max(within, key=lambda mount: len(mount[1]))
    return not kind.startswith(_LOCAL_KINDS) and not set(options.split(",")) & set(_LOCAL_OPTIONS)
