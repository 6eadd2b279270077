"""Specifications as text: ``name`` or ``name:key=value,key=value``; one inside another stands in parentheses.

Values without a key are those of the first arguments, in their order: ``step:30``, ``group:16``.

What can be written so: schedules, augmentations and norms, made by constructors whose arguments have one of a few
types, so that recipes can store them and the command line can take them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from repfold.errors import RepFoldError, nearest

T = TypeVar("T")

# How the text of an argument is read, by the annotation of the parameter it is for.
READERS: dict[str, Callable[[str], Any]] = {
    "float": float,
    "float | None": float,
    "int": int,
    "str": str,
    "bool": lambda text: _flag(text),
    "tuple[float, ...]": lambda text: tuple(float(item) for item in text.split("/")),
    "float | tuple[float, ...]": lambda text: tuple(float(item) for item in text.split("/")),
    "tuple[float, float]": lambda text: _pair(text),
}


def parse(
    text: str,
    kind: str,
    known: Mapping[str, Callable[..., T]],
    *,
    readers: Mapping[str, Callable[[str], Any]] = READERS,
    given: Mapping[str, Any] | None = None,
) -> T:
    """Return what ``text`` describes, made by one of the ``known`` constructors.

    ``kind`` names in errors what is read; ``given`` are defaults for the constructors that take them.

    Raises: RepFoldError for unknown names and arguments (with the nearest match) and values that cannot be read.
    """
    name, _, arguments = _unwrap(text).partition(":")
    key = name.strip().lower().replace("_", "-")
    if key not in known:
        raise RepFoldError(f"Unknown {kind} '{name.strip()}'. {nearest(key, known)}")
    parameters = {item.name: str(item.annotation) for item in inspect.signature(known[key]).parameters.values()}
    values = {name: value for name, value in (given or {}).items() if name in parameters}
    for index, item in enumerate(split(arguments, ",")):
        argument, equals, value = (part.strip() for part in item.partition("="))
        if not equals and index < len(parameters):
            argument, value = tuple(parameters)[index], argument
        if argument not in parameters:
            offer = nearest(argument, parameters) if parameters else "It takes none."
            raise RepFoldError(f"'{item.strip()}' is no argument of {kind} '{key}'. {offer}")
        values[argument] = _value(f"{key}: {argument}={value}", value, parameters[argument], readers)
    return known[key](**values)


def to_text(name: str, value: Any) -> str:
    """Return the text that ``parse`` makes an equal dataclass ``value`` from; fields at their defaults are left out.

    A field with ``metadata={"always_written": True}`` is never left out.
    """
    written = [
        field
        for field in dataclasses.fields(value)
        if field.metadata.get("always_written") or _text(getattr(value, field.name)) != _text(field.default)
    ]
    arguments = ",".join(f"{field.name}={_text(getattr(value, field.name))}" for field in written)
    return f"{name}:{arguments}" if arguments else name


def split(text: str, separator: str) -> Iterator[str]:
    """Yield the parts of ``text`` between separators that are in no parentheses; nothing for empty text."""
    depth, begin = 0, 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == separator and depth == 0:
            yield text[begin:index]
            begin = index + 1
    if depth != 0:
        raise RepFoldError(f"The parentheses of '{text}' do not match.")
    if text[begin:].strip():
        yield text[begin:]


def _value(item: str, text: str, annotation: str, readers: Mapping[str, Callable[[str], Any]]) -> Any:
    try:
        return readers[annotation](text)
    except RepFoldError:
        raise
    except ValueError as error:
        raise RepFoldError(f"{item} cannot be read as {annotation}: {error}.") from error


def _pair(text: str) -> tuple[float, float]:
    low, slash, high = text.partition("/")
    if not slash:
        raise ValueError("write low/high")
    return float(low), float(high)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("write true or false")
    return text.lower() == "true"


def _unwrap(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(_text(item) for item in value)
    if isinstance(value, float):
        return f"{value!r}".removesuffix(".0")
    text = str(value)
    return f"({text})" if ":" in text else text
