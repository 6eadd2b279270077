"""Text for people leaves here, its control characters spelt out.

Names of classes, paths, and whatever files say may hold any character, and a terminal obeys some: they rewrite what was
said, set titles, turn the direction of writing, answer in the user's place.
"""

from __future__ import annotations

import re
import sys

# C0 but tabs and ends of lines, DEL, C1; separators of lines; overrides of direction; halves of surrogate pairs, which
# stand for bytes of file names that are no text and cannot be encoded.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    r"""``text`` with its control characters as Python writes them: \x1b."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_json(content: object) -> None:
    """Print one JSON object to stdout."""
    import json

    print(json.dumps(content))


def echo(text: str = "", *, end: str = "\n", error: bool = False) -> None:
    """Print ``text``, clean, to stdout or with ``error`` to stderr."""
    print(clean(text), end=end, file=sys.stderr if error else sys.stdout)
