"""One answer to each failure: what the user or the machine can mend is one message with the remedy, no traceback.

Everything else is a fault of RepFold, and is printed with all that a report needs.
"""

from __future__ import annotations

import errno
import os
import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from repfold.cli.terminal import echo
from repfold.errors import RepFoldError

USERS_MISTAKE, FAULT = 2, 1


@dataclass(frozen=True)
class Answer:
    """What is printed on stderr, and the exit code."""

    text: str
    exit_code: int = USERS_MISTAKE


def give(error: Exception) -> int:
    """Print the answer to ``error``; return the exit code."""
    answer = answer_to(error)
    if answer is None:
        traceback.print_exception(error)
        answer = Answer(_report_of(error), FAULT)
    echo(f"repfold: {answer.text}", error=True)
    return answer.exit_code


def answer_to(error: Exception) -> Answer | None:
    """Return the answer to ``error``; None when it is a fault of RepFold."""
    for kind, answer in _ANSWERS:
        if isinstance(error, kind):
            return answer(error)
    return None


def _of_text(error: Exception) -> Answer | None:
    if not isinstance(error, UnicodeEncodeError) or "surrogates" not in error.reason:
        return None
    name = ascii(error.object[max(0, error.start - 40) : error.end + 40])
    return Answer(
        f"{name} holds bytes that are no UTF-8 text, which cannot be written down. Rename the file or folder."
    )


def _of_system(error: Exception) -> Answer | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
    remedy = _REMEDIES.get(error.errno, "Check the path, the disk and what you may do there.")
    where = " -> ".join(paths) or "The system says"
    return Answer(f"{where}: {error.strerror}. {remedy}")


def _no_memory(error: Exception) -> Answer:
    reason = (str(error).splitlines() or [""])[0][:160]
    why = f" ({reason})" if reason else ""
    return Answer(f"There is not enough memory for this{why}. Use smaller images, a smaller batch or network.")


def _of_runtime(error: Exception) -> Answer | None:
    """PyTorch and the system's libraries tell what the machine has no more of in words alone."""
    if any(words in str(error) for words in _NO_MEMORY):
        return _no_memory(error)
    return next((Answer(text.format(error=error)) for words, text in _WORDS.items() if words in str(error)), None)


def _report_of(error: Exception) -> str:
    versions = f"repfold {metadata.version('repfold')}, torch {metadata.version('torch')}"
    return (
        f"this {type(error).__name__} is a fault of RepFold, not yours. Please report it with the lines above, the "
        f"command, and: {versions}, Python {platform.python_version()}, {platform.platform()}."
    )


_MAY_NOT = "See to its permissions, or choose another path."
_ROOM = "Make room there, or choose another path."
_DISK = "Check the disk, and its connection."
_REMEDIES = {
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "A part of the path is a file: check the path.",
    errno.EISDIR: "Give the path of a file.",
    errno.EEXIST: "Choose another path.",
    errno.ENOTEMPTY: "Choose another path.",
    errno.ELOOP: "Its symbolic links go round in a circle: mend them.",
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.ENXIO: "Give the path of an ordinary file.",
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EROFS: "Choose another path.",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
    errno.EMFILE: "Allow more: ulimit -n 1024.",
    errno.ENFILE: "Close other programs.",
    errno.ENOMEM: "Use smaller images, a smaller batch or a smaller network.",
    errno.EAGAIN: "Allow more processes (ulimit -u), or close other programs.",
}

_NO_MEMORY = (
    "allocate memory",  # DefaultCPUAllocator
    "not enough memory",
    "out of memory",  # CUDA
    "Storage size calculation overflowed",
    "integer multiplication overflow",
    "ALLOC_FAILED",  # cuBLAS
)
_WORDS = {
    "start new thread": "The system starts no more threads. Use fewer (--threads), or allow more processes: ulimit -u.",
    "Too many open files": f"Too many files are open. {_REMEDIES[errno.EMFILE]}",
    "Symlink loop": f"{{error}}. {_REMEDIES[errno.ELOOP]}",  # pathlib
}
_NESTED = Answer("What was given is nested more deeply than anything that makes sense. Look at the files for damage.")

# The first kind that fits answers.
_ANSWERS: tuple[tuple[type[Exception], Callable[[Exception], Answer | None]], ...] = (
    (RepFoldError, lambda error: Answer(str(error))),
    (UnicodeEncodeError, _of_text),
    (OSError, _of_system),
    (MemoryError, _no_memory),
    (RecursionError, lambda error: _NESTED),
    (RuntimeError, _of_runtime),
    (ImportError, _of_runtime),
)
