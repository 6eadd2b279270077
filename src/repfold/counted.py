"""How many things, in words."""

from __future__ import annotations


def counted(number: float, noun: str, plural: str = "") -> str:
    """Return "1 epoch", "25 epochs", "1,000 images"; ``plural`` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
