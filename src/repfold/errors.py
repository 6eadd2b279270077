"""Errors that a user can cause: each says what happened, why, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RepFoldError(ValueError):
    """A mistake in what the user gave. The command line prints it without a traceback and exits with code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that offers the known name closest to ``name``, or lists all of them when none is close."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(choices)}."
