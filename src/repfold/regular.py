"""Reading files that may come from anywhere: regular files alone, and no more of them than is wanted.

A pipe would be waited for without end, a device read without end; a name in a foreign directory may be either.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
}


class IrregularFileError(OSError):
    """It is there, but no regular file: the message names its kind."""


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """``path`` opened for reading in binary; never waits for a writer.

    Raises: IrregularFileError for pipes, devices, sockets and directories, OSError for what cannot be opened.
    """
    # What was opened is looked at, not what lies at the path: nobody can change it in between.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind != stat.S_IFREG:
            raise IrregularFileError(f"it is {_KINDS.get(kind, 'something else')}, not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes. Raises: OSError for any other."""
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"it is larger than the {most:,} bytes that such a file may have")
    return content


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """The same of UTF-8 text. Raises: OSError, and UnicodeDecodeError for other text."""
    return read_bytes(path, most).decode("utf-8")
