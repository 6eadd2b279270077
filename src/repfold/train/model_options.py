"""Options of a network as text: ``block=dbb,iterations=2/2/2,channels=96,gated=true``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from repfold import specs
from repfold.errors import RepFoldError


def read(text: str) -> dict[str, Any]:
    """Return name -> value: true or false, a whole number, a number, several between slashes, else text.

    What networks take which options is for them to say. Raises: RepFoldError for what is not name=value.
    """
    options: dict[str, Any] = {}
    for item in specs.split(text, ","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not (equals and name.isidentifier() and value):
            raise RepFoldError(f"'{item.strip()}' is no option of a network: write name=value, as block=dbb.")
        if name in _SAID_ELSEWHERE:
            raise RepFoldError(f"'{name}' is no option of the network: {_SAID_ELSEWHERE[name]}.")
        if name in options:
            raise RepFoldError(f"The option '{name}' is given twice.")
        options[name] = _value(value)
    return options


def write(options: Mapping[str, Any]) -> str:
    """Return the text that ``read`` reads as ``options``."""
    return ",".join(f"{name}={_text(value)}" for name, value in options.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


# What models.create is given for every network.
_SAID_ELSEWHERE = {
    "name": "the recipe's model is its name",
    "num_classes": "the data say how many classes there are",
    "preset": "the recipe has a preset of its own",
    "in_channels": "the recipe's channels are meant",
}
_WORDS = {"true": True, "false": False}
_NUMBERS: tuple[Callable[[str], Any], ...] = (int, float)


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    parts = text.split("/")
    for number in _NUMBERS:
        try:
            values = tuple(number(part) for part in parts)
        except ValueError:
            continue
        return values if len(values) > 1 else values[0]
    return text
