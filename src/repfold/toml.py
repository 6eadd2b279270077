"""TOML that may come from anywhere, read in no time: bounded in length, nesting and keys."""

from __future__ import annotations

import tomllib
from typing import Any

from repfold.errors import RepFoldError

MOST_BYTES = 2**16
_MOST_DOTS = 64  # a line; a dotted key costs the reader the cube of its parts


def parse(text: str) -> dict[str, Any]:
    """The values in ``text``. Raises: RepFoldError for what is not TOML, and for more than a person writes."""
    if len(text) > MOST_BYTES:
        raise RepFoldError(f"it has {len(text):,} characters; at most {MOST_BYTES:,} are read.")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > _MOST_DOTS and not line.lstrip().startswith("#"):
            raise RepFoldError(f"line {number} has more than {_MOST_DOTS} dots: a key of so many parts is not read.")
    try:
        values = tomllib.loads(text)
        _check_numbers(values)
        return values
    except RepFoldError:
        raise
    except RecursionError as error:
        raise RepFoldError("it is nested too deeply.") from error
    except ValueError as error:  # tomllib's own, or a number of thousands of digits
        raise RepFoldError(f"it is not TOML: {error}") from error


def _check_numbers(value: object) -> None:
    """TOML's whole numbers have 64 bits; Python's have any length, and take as long to write."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RepFoldError(f"it has a whole number of {value.bit_length()} bits: TOML's have 64.")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(item)
