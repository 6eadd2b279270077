"""Schedules as text: ``name`` or ``name:key=value,key=value``; a schedule inside another stands in parentheses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from repfold.errors import RepFoldError, nearest
from repfold.schedule.length import length
from repfold.schedule.schedule import Schedule

Registry = Mapping[str, Callable[..., Schedule]]

# How the text of an argument is read, by the annotation of the parameter it is for.
_READERS: dict[str, Callable[[str], Any]] = {
    "float": float,
    "float | None": float,
    "str": str,
    "LengthLike": length,
    "tuple[float, ...]": lambda text: tuple(float(item) for item in text.split("/")),
    "tuple[LengthLike, ...]": lambda text: tuple(length(item) for item in text.split("/")),
}


def read(text: str, known: Registry, lr: float | None) -> Schedule:
    """Return the schedule that ``text`` describes; ``lr`` goes to those that are told in absolute rates.

    Raises: RepFoldError for unknown names and arguments (with the nearest match) and values that cannot be read.
    """
    name, _, arguments = _unwrap(text).partition(":")
    key = name.strip().lower().replace("_", "-")
    if key not in known:
        raise RepFoldError(f"Unknown schedule '{name.strip()}'. {nearest(key, known)}")
    make = known[key]
    parameters = {item.name: str(item.annotation) for item in inspect.signature(make).parameters.values()}
    values: dict[str, Any] = {"lr": lr} if lr is not None and "lr" in parameters else {}
    for item in _split(arguments):
        argument, equals, value = (part.strip() for part in item.partition("="))
        if argument not in parameters or not equals:
            raise RepFoldError(f"'{item.strip()}' is no argument of schedule '{key}'. {_offer(argument, parameters)}")
        values[argument] = _value(key, argument, value, parameters[argument], known, lr)
    return make(**values)


def _value(schedule: str, argument: str, value: str, annotation: str, known: Registry, lr: float | None) -> Any:
    if annotation == "Schedule":
        return read(value, known, lr)
    try:
        return _READERS[annotation](value)
    except RepFoldError:
        raise
    except ValueError as error:
        raise RepFoldError(f"{schedule}: {argument}={value} cannot be read as {annotation}: {error}.") from error


def _offer(argument: str, parameters: Mapping[str, str]) -> str:
    return nearest(argument, parameters) + " Write name=value." if parameters else "It takes none."


def _unwrap(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _split(text: str) -> Iterator[str]:
    """Yield the parts of ``text`` between commas that are in no parentheses."""
    depth, begin = 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            yield text[begin:place]
            begin = place + 1
    if depth != 0:
        raise RepFoldError(f"The parentheses of '{text}' do not match.")
    if text[begin:].strip():
        yield text[begin:]
