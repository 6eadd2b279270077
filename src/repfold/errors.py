"""Errors that a user can cause: each says what happened, why, and what to do."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Sequence


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


def few(names: Sequence[object], most: int = 3) -> str:
    """Return the first names, and how many more there are: "a, b, c and 4 more"."""
    more = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that offers the known name closest to ``name``, or lists all of them when none is close."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(choices)}."
