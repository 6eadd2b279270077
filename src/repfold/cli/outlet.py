"""Where the command line prints: streams that may close while a command works, which goes on working.

A reader that leaves (``| head``), a log on a full disk and a closed terminal take the output, not the work. What was
not delivered is remembered, and the exit code shows it where the output was what the command was for.
"""

from __future__ import annotations

import errno
import os
from typing import Any, TextIO

# Room may be made, and then the log goes on; whatever else a stream fails with, it fails with for good.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EAGAIN})


class Outlet:
    """``stream`` as those who print know it, but that never raises what the system says of its other end.

    ``failure``: the first such error, or None.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, or lose, ``text``; what the encoding lacks is written as its escape."""
        try:
            try:
                return self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding or "utf-8"
                return self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._lose(error)
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, or lose what was not written yet."""
        try:
            self.stream.flush()
        except OSError as error:
            self._lose(error)

    def finish(self) -> OSError | None:
        """Flush for the last time; return the first failure. Nothing is left for the interpreter to fail with."""
        self.flush()
        if self.failure is not None:
            self._let_go()
        return self.failure

    def _lose(self, error: OSError) -> None:
        self.failure = self.failure or error
        if error.errno not in _PASSING:
            self._let_go()

    def _let_go(self) -> None:
        """Have the stream's descriptor lead nowhere: for what the stream holds, and for what others write to it."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
            self.stream.flush()
        except (OSError, ValueError):  # a stream without a descriptor has nothing to lead
            pass


def open_closed_descriptors() -> None:
    """Have 0, 1 and 2 lead somewhere, or the first file that is opened would be taken for the output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
