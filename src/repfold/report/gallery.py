"""A sheet of equations between kernels: each row shows the branches of a structure and the one kernel they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repfold.errors import RepFoldError
from repfold.report.chart_svg import stylesheet
from repfold.report.markup import Markup, join, pixels, tag

CELL, GAP = 6.0, 3.0  # side of a weight, space between the kernels of two channels
LEVELS = 8  # shades of a weight, by the square root of its share of the row's largest
LEFT, SIGN, ABOVE, BELOW = 16.0, 30.0, 44.0, 40.0
BETWEEN = 36.0  # columns of equations

_STYLE = (
    ".gallery text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:var(--soft)}"
    ".gallery .middle{text-anchor:middle}"
    ".gallery .name{font-size:14px;font-weight:600;fill:var(--ink)}.gallery .sign{font-size:20px;fill:var(--ink)}"
    ".frame{fill:none;stroke:var(--rule)}.plus{fill:var(--s0)}.minus{fill:var(--s1)}"
)


@dataclass(frozen=True)
class Kernel:
    """A kernel [O, I, H, W] and what it is."""

    caption: str
    weight_OIHW: np.ndarray

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of its drawing in pixels."""
        out_channels, in_channels, rows, columns = self.weight_OIHW.shape
        return (
            in_channels * columns * CELL + (in_channels - 1) * GAP,
            out_channels * rows * CELL + (out_channels - 1) * GAP,
        )


@dataclass(frozen=True)
class Equation:
    """``parts`` joined by ``sign`` equal ``result``."""

    title: str
    formula: str
    parts: tuple[Kernel, ...]
    result: Kernel
    sign: str = "+"


def gallery(equations: Sequence[Equation], *, columns: int = 2) -> str:
    """Return the text of an SVG file, light and dark, with the equations in rows of ``columns``.

    Rows of a kernel's drawing are output channels, columns input channels. Blue weights are positive, orange ones
    negative; the stronger, the larger.

    Raises: RepFoldError when there is nothing to draw, or a weight is not finite.
    """
    if not equations:
        raise RepFoldError("There are no equations to draw.")
    drawn = [_drawn(equation) for equation in equations]
    widths = [
        max(width for _, width, _ in drawn[index::columns]) + BETWEEN for index in range(min(columns, len(drawn)))
    ]
    groups: list[Markup] = []
    y = 8.0
    for first in range(0, len(drawn), columns):
        row = drawn[first : first + columns]
        for index, (drawing, _, _) in enumerate(row):
            at = f"translate({pixels(LEFT + sum(widths[:index]))} {pixels(y)})"
            groups.append(tag("g", drawing, transform=at))
        y += max(height for _, _, height in row)
    width = 2 * LEFT + sum(widths) - BETWEEN
    paper = tag("rect", class_="paper", x=0, y=0, width=width, height=y)
    label = "Kernels: " + "; ".join(f"{equation.title}: {equation.formula}" for equation in equations)
    style = Markup(f"<style>{stylesheet()}{_STYLE}</style>")
    return tag(
        "svg",
        join([style, paper, *groups]),
        class_="gallery",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {pixels(width)} {pixels(y)}",
        role="img",
        aria_label=label,
    )


def _drawn(equation: Equation) -> tuple[Markup, float, float]:
    """Return an equation's drawing, its width and its height."""
    kernels = [*equation.parts, equation.result]
    largest = max(float(np.abs(kernel.weight_OIHW).max()) for kernel in kernels)
    if not np.isfinite(largest):
        raise RepFoldError(f"A kernel of '{equation.title}' holds values that are not finite.")
    height = max(kernel.size[1] for kernel in kernels)
    middle = ABOVE + height / 2
    drawn = [
        tag("text", equation.title, class_="name", x=0, y=14),
        tag("text", equation.formula, x=0, y=31),
    ]
    x = 0.0
    for index, kernel in enumerate(kernels):
        if index:
            sign = "=" if index == len(kernels) - 1 else equation.sign
            drawn.append(tag("text", sign, class_="sign middle", x=x + SIGN / 2, y=middle + 6))
            x += SIGN
        room = max(kernel.size[0], 6.4 * len(kernel.caption))
        left = x + (room - kernel.size[0]) / 2
        drawn.append(_drawing(kernel, left, middle - kernel.size[1] / 2, largest))
        drawn.append(tag("text", kernel.caption, class_="middle", x=x + room / 2, y=ABOVE + height + 17))
        x += room
    titles = 7.0 * max(len(equation.formula), len(equation.title))
    return join(drawn), max(x, titles), ABOVE + height + BELOW


def _drawing(kernel: Kernel, left: float, top: float, largest: float) -> Markup:
    """A frame for each pair of channels; the weights of one shade as one path."""
    out_channels, in_channels, rows, columns = kernel.weight_OIHW.shape
    across, down = columns * CELL + GAP, rows * CELL + GAP
    shade_OIHW = np.ceil(LEVELS * np.sqrt(np.abs(kernel.weight_OIHW) / (largest or 1.0))).astype(int)
    squares: dict[tuple[str, int], list[str]] = {}
    frames = []
    for o in range(out_channels):
        for i in range(in_channels):
            x, y = left + i * across, top + o * down
            frames.append(
                f"M{pixels(x)} {pixels(y)}h{pixels(columns * CELL)}v{pixels(rows * CELL)}h-{pixels(columns * CELL)}z"
            )
            for (row, column), shade in np.ndenumerate(shade_OIHW[o, i]):
                if shade:
                    kind = "plus" if kernel.weight_OIHW[o, i, row, column] > 0 else "minus"
                    at = f"M{pixels(x + column * CELL)} {pixels(y + row * CELL)}h{CELL:g}v{CELL:g}h-{CELL:g}z"
                    squares.setdefault((kind, int(shade)), []).append(at)
    paths = [
        tag("path", class_=kind, fill_opacity=shade / LEVELS, d="".join(paths))
        for (kind, shade), paths in sorted(squares.items())
    ]
    return tag("g", *paths, tag("path", class_="frame", d="".join(frames)))
