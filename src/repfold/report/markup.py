"""HTML and SVG as text that is safe by construction: what is not yet ``Markup`` is escaped when it is put in."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = {"meta", "link", "br", "hr", "img", "col"}
_SHAPES = {"rect", "path", "line", "circle", "image"}


class Markup(str):
    """Text that is HTML already. Only this module and files shipped with the package may make one from a literal."""

    __slots__ = ()


Child = str | int | None


def escape(child: Child) -> Markup:
    """Return ``child`` as HTML: ``Markup`` as it is, ``None`` as nothing, all else with ``< > & " '`` escaped."""
    if isinstance(child, Markup):
        return child
    # Half a surrogate pair, as stands for a byte of a file's name that is no text, cannot be written.
    return Markup("" if child is None else html.escape(str(child).encode("utf-8", "backslashreplace").decode()))


def join(children: Iterable[Child], separator: str = "") -> Markup:
    """Return the children one after the other, each escaped as ``escape`` does."""
    return Markup(escape(separator).join(escape(child) for child in children))


def tag(name: str, /, *children: Child, **attributes: str | int | float | None) -> Markup:
    """Return the element ``<name attributes>children</name>``.

    An attribute that is ``None`` is left out; ``class_`` gives ``class`` and ``data_key`` gives ``data-key``; a float
    is written with two decimals at most, which is a hundredth of a pixel in a drawing.
    """
    written = "".join(f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    if name in _SHAPES and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def pixels(value: float) -> str:
    """Write a coordinate as short as a hundredth of a pixel allows: 12.5, 12, 0.25."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | int | float) -> str:
    return pixels(value) if isinstance(value, float) else html.escape(str(value))
