"""How series are told apart: eight colours for light and dark pages, and eight marker shapes for eyes without colour.

A series has a style, a whole number. Its colour is ``style mod 8``; its marker shape is shifted by one each time the
colours have gone round, so that 64 styles differ. Shapes are SVG path data about the origin, about 8 units across.
"""

from __future__ import annotations

# Each has a contrast of at least 4.5:1 with its page: white, and PAGE_DARK.
PAGE_DARK = "#14171b"
LIGHT = ("#0b62c4", "#c8440a", "#0a7a58", "#8b3fb5", "#8a6100", "#087a95", "#bb2a6e", "#59616b")
DARK = ("#6cb2ff", "#ff9361", "#4fd1a1", "#d49bf0", "#e8bd4a", "#5bd0e8", "#ff8fc0", "#b5bdc8")

SHAPES = (
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "M-3.2-3.2h6.4v6.4h-6.4z",
    "M0-4.4L4.2 3.2h-8.4z",
    "M0-4.6L4.2 0 0 4.6-4.2 0z",
    "M0 4.4L4.2-3.2h-8.4z",
    "M-1.4-4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z",
    "M-4.2-2.2l2-2L0-2l2.2-2.2 2 2L2 0l2.2 2.2-2 2L0 2l-2.2 2.2-2-2L-2 0z",
    "M0-4.8l1.3 3.1 3.3.3-2.5 2.1.8 3.3L0 2.2-2.9 4l.8-3.3-2.5-2.1 3.3-.3z",
)


def colour(style: int) -> int:
    """Return which of the eight colours a style has."""
    return style % len(LIGHT)


def shape(style: int) -> int:
    """Return which of the eight marker shapes a style has."""
    return (style + style // len(LIGHT)) % len(SHAPES)


def css() -> str:
    """Return the colours as CSS custom properties ``--s0`` to ``--s7``: light first, dark on a dark screen."""

    def properties(colours: tuple[str, ...]) -> str:
        return "".join(f"--s{index}:{value};" for index, value in enumerate(colours))

    uses = "".join(f".c{index}{{--c:var(--s{index})}}" for index in range(len(LIGHT)))
    return (
        f":root{{{properties(LIGHT)}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{properties(DARK)}}}}}{uses}"
    )
