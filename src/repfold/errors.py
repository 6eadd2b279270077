"""Errors that a user can cause: each says what happened, why, and what to do."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable, Sequence

# Lines of OpenVINO's and PyTorch's messages that tell where in C++ an error was found.
_PLACE = re.compile(r"Exception from \S+:\d+:$|Check '.*' failed at \S+:\d+:$|FrontEnd API failed with \w+:$")


class RepFoldError(ValueError):
    """A mistake in what the user gave. The command line prints it without a traceback and exits with code 2."""


class NotWritten(OSError, RepFoldError):
    """A file could not be written; the one of that name, if there is one, is as it was."""

    def __str__(self) -> str:
        kept = " What was there before is as it was." if os.path.isfile(self.filename) else ""
        remedy = "Make room on the disk, see to the directory's permissions, or choose another path."
        if self.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENXIO):
            remedy = "Give the path of an ordinary file, in a directory."
        return f"{self.filename} could not be written: {self.strerror}.{kept} {remedy}"


def first_line(error: BaseException, most: int = 200) -> str:
    """Return what another library's exception says, in one line: the first that is no place in its source code."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = next((line for line in lines if line and not _PLACE.match(line)), type(error).__name__)
    return said if len(said) <= most else f"{said[: most - 1]}\u2026"


def few(names: Sequence[object], most: int = 3) -> str:
    """Return the first names, and how many more there are: "a, b, c and 4 more"."""
    more = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that offers the known name closest to ``name``, or lists all of them when none is close."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(choices)}."
