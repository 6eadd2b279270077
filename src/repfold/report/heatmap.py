"""The drawing of a confusion matrix: cells with counts for few classes, a small picture for many."""

from __future__ import annotations

import base64
import io
import unicodedata

import numpy as np

from repfold.report.confusion import Confusion
from repfold.report.markup import Markup, escape, tag

FEW = 20
# Right and wrong have hues of their own, and the shade is a share: the square root lets rare confusions be seen.
_TITLE = 18.0  # the room for an axis title
_HIT, _MISS = (42, 111, 214), (209, 72, 12)


def heatmap(confusion: Confusion) -> Markup:
    """Return the matrix as an ``<svg>`` for up to ``FEW`` classes, as a picture for more; rows are true classes."""
    return _cells(confusion) if len(confusion.classes) <= FEW else _picture(confusion)


def shade_TP(confusion: Confusion) -> np.ndarray:
    """Return how strongly each cell is coloured, 0..1: the square root of its share of the true class's images."""
    shade: np.ndarray = np.sqrt(confusion.share_TP)
    return shade


def _cells(confusion: Confusion) -> Markup:
    """Draw one rectangle and one number per cell; those that count nothing stay empty."""
    names = [shortened(name) for name in confusion.classes]
    count = len(names)
    cell = 34.0 if count > 12 else 44.0
    longest = max(_width(name) for name in names)
    left, top = _TITLE + 14 + longest, _TITLE + 24 + 0.72 * longest
    shades = shade_TP(confusion)
    parts: list[Markup] = []
    for t in range(count):
        y = top + t * cell
        parts.append(tag("text", names[t], class_="end label", x=left - 7, y=y + cell / 2 + 4))
        parts.append(_slanted(names[t], left + (t + 0.5) * cell, top - 8))
        parts += [_cell(confusion, shades, t, p, left + p * cell, y, cell) for p in range(count)]
    width, height = left + count * cell + 0.8 * _width(names[-1]) + 8, top + count * cell + 4
    middle = count * cell / 2
    parts.append(tag("text", "predicted class", class_="middle", x=left + middle, y=13))
    parts.append(tag("text", "true class", class_="middle", transform=f"translate(13 {top + middle:.1f}) rotate(-90)"))
    label = f"Confusion matrix of {count} classes; the table of pairs lists its largest errors."
    style = f"min-width:{min(width, 720) * 0.78:.0f}px;max-width:{width:.0f}px"
    view = f"0 0 {width:.0f} {height:.0f}"
    return tag("svg", *parts, class_="chart matrix", viewBox=view, style=style, role="img", aria_label=label)


def _cell(confusion: Confusion, shades: np.ndarray, t: int, p: int, x: float, y: float, side: float) -> Markup:
    count, shade = int(confusion.matrix_TP[t, p]), float(shades[t, p])
    kind = "hit" if t == p else "miss"
    square = {"x": x + 1, "y": y + 1, "width": side - 2, "height": side - 2, "rx": 3}
    if not count:
        return tag("rect", class_="none", **square)
    text = tag("text", count, class_="middle deep" if shade > 0.62 else "middle", x=x + side / 2, y=y + side / 2 + 4)
    tip = tag("title", f"{confusion.classes[t]} → {confusion.classes[p]}: {count} ({confusion.share_TP[t, p]:.1%})")
    return tag("g", tag("rect", class_=kind, fill_opacity=shade, **square), text, tip)


def _slanted(name: str, x: float, y: float) -> Markup:
    return tag("text", name, class_="label", transform=f"translate({x:.1f} {y:.1f}) rotate(-42)")


def _width(name: str) -> float:
    """Return about how wide a label is in pixels, rather too wide than too narrow."""
    return sum(12.0 if unicodedata.east_asian_width(character) in "WF" else 7.0 for character in name)


def shortened(name: str, most: int = 18) -> str:
    """Return a class name that fits beside a matrix."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _picture(confusion: Confusion) -> Markup:
    """Draw one pixel a cell, its shade in the alpha channel so that it suits a light and a dark page."""
    count = len(confusion.classes)
    picture = tag(
        "img",
        class_="matrix",
        src=f"data:image/png;base64,{base64.b64encode(_png(confusion)).decode()}",
        alt=f"Confusion matrix of {count} classes, rows true, columns predicted; the tables list its largest errors.",
    )
    axes = tag("span", "predicted class →", class_="across"), tag("span", "true class →", class_="down")
    return tag("div", *axes, picture, class_="picture")


def _png(confusion: Confusion) -> bytes:
    from PIL import Image

    # 33 shades of each hue as a palette: a picture of 1000 classes then takes some tens of kilobytes.
    levels_TP = np.ceil(shade_TP(confusion) * 32).astype(np.uint8)
    np.fill_diagonal(levels_TP, np.where(np.diagonal(levels_TP) > 0, np.diagonal(levels_TP) + 32, 0))
    image = Image.fromarray(levels_TP, mode="P")
    image.putpalette([*_MISS] * 33 + [*_HIT] * 32)
    # One image in a thousand is still seen: the faintest shade of a cell that counts something is a quarter.
    alpha = bytes(round(255 * (level and 0.25 + 0.75 * level / 32)) for level in [*range(33), *range(1, 33)])
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=alpha, optimize=True)
    return stream.getvalue()


def legend() -> Markup:
    """Return what the shades mean."""
    words = "the stronger, the larger the share of the true class's images"
    keys = tag("i", class_="chip hit"), escape(" right  "), tag("i", class_="chip miss"), escape(f" wrong · {words}")
    return tag("p", *keys, class_="quiet")
