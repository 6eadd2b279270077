"""Recipes as TOML files: complete when written, any part of one when read, and those that come with RepFold."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from repfold import atomic, regular, run_files, toml
from repfold.errors import RepFoldError, nearest
from repfold.train.recipe import Recipe, check_names, difference

_COMMENT_COLUMN = 40


def to_toml(recipe: Recipe) -> str:
    """Return the complete recipe, one field a line with its explanation; ``from_toml`` gives back an equal one."""
    lines = []
    for field in dataclasses.fields(Recipe):
        line = f"{field.name} = {_value(getattr(recipe, field.name))}"
        lines.append(f"{line:<{_COMMENT_COLUMN}} # {field.metadata['explanation']}")
    return "\n".join(lines) + "\n"


def from_toml(text: str, *, base: Recipe | None = None, name: str = "the recipe") -> Recipe:
    """Return ``base`` (the defaults) with the fields changed that ``text`` gives.

    Raises: RepFoldError, which begins with ``name``, for text that is not TOML, unknown keys and wrong values.
    """
    try:
        values = toml.parse(text)
        if tables := [key for key, value in values.items() if isinstance(value, dict)]:
            raise RepFoldError(f"recipes are flat, but [{tables[0]}] is a table: write its keys without it.")
        check_names(values)
        return dataclasses.replace(base or Recipe(), **values)
    except RepFoldError as error:
        raise RepFoldError(f"{name}: {error}") from error


def write(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write the complete recipe as TOML, atomically."""
    atomic.write_text(path, to_toml(recipe))


def read(path: str | os.PathLike[str], *, base: Recipe | None = None) -> Recipe:
    """Read a recipe file. Raises: RepFoldError, naming the file, when it is missing or wrong."""
    try:
        text = regular.read_text(path, toml.MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise RepFoldError(f"{path} cannot be read as a recipe: {error}. Give a TOML file of recipe keys.") from error
    return from_toml(text, base=base, name=str(path))


def find(name_or_path: str, *, base: Recipe | None = None) -> Recipe:
    """Return a shipped recipe, by name, or that of a file (a dot or slash in its name) or run directory.

    Raises: RepFoldError, with the nearest match, when there is none.
    """
    if is_path(name_or_path):
        return read(_file(name_or_path), base=base)
    known = shipped()
    if name_or_path not in known:
        raise RepFoldError(f"Unknown recipe '{name_or_path}'. {nearest(name_or_path, known)} A file ends in .toml.")
    return from_toml(known[name_or_path], base=base, name=f"recipe '{name_or_path}'")


def names(name_or_path: str) -> frozenset[str]:
    """Return the fields that a recipe gives, which ``find`` finds."""
    text = regular.read_text(_file(name_or_path), toml.MOST_BYTES) if is_path(name_or_path) else shipped()[name_or_path]
    return frozenset(toml.parse(text))


def _file(name_or_path: str) -> Path:
    path = Path(name_or_path)
    return path / run_files.RECIPE if path.is_dir() else path


def is_path(name_or_path: str) -> bool:
    """Whether ``find`` looks for a file or a run directory, not for a recipe that comes with RepFold."""
    path = Path(name_or_path)
    if path.suffix or len(path.parts) > 1 or (path / run_files.RECIPE).is_file():
        return True
    return path.is_dir() and name_or_path not in shipped()  # which a folder of images may share its name with


def shipped() -> dict[str, str]:
    """Return the recipes that come with RepFold: name -> TOML text."""
    folder = resources.files("repfold") / "recipes"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}


def first_comment(text: str) -> str:
    """Return the first line of a recipe file when it is a comment: what the recipe is for."""
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def explain_difference(old: Recipe, new: Recipe) -> str:
    """Return the fields that differ, one a line: "  name: old -> new"; empty when none that matters differs."""
    changes = difference(old, new).items()
    return "\n".join(f"  {name}: {_value(before)} -> {_value(after)}" for name, (before, after) in changes)


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RepFoldError(f"{value!r} holds bytes that are no text, which a recipe file cannot: rename it.") from error
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_WRITERS: dict[type, Callable[[Any], str]] = {
    bool: lambda value: "true" if value else "false",
    int: str,
    float: repr,
    str: _text,
    tuple: lambda value: f"[{', '.join(map(_value, value))}]",
}


def _value(value: Any) -> str:
    return _WRITERS[type(value)](value)
