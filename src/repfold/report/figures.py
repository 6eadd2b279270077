"""Pictures in files: a chart, or a sheet of images with captions, as SVG, PNG or PDF by the file's ending."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repfold import atomic
from repfold.errors import RepFoldError, nearest
from repfold.report import palette
from repfold.report.chart import HEIGHT, WIDTH, Chart, Series, axes
from repfold.report.chart_svg import svg_file
from repfold.report.numbers import finite
from repfold.report.scale import tick_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.figure import Figure

_DPI = 160


def save_chart(chart: Chart, path: str | os.PathLike[str]) -> Path:
    """Write a chart to ``path``: ``.svg`` (small, light and dark), ``.png`` or ``.pdf``; return the path.

    Raises: RepFoldError for another ending, and for a chart without a finite value.
    """
    if not chart.values():
        raise RepFoldError(f"The chart '{chart.title}' has no finite value to draw.")
    return _WRITERS[_ending(path)](chart, Path(path))


def save_images(
    images: Sequence[np.ndarray],
    path: str | os.PathLike[str],
    *,
    captions: Sequence[str] = (),
    columns: int = 8,
) -> Path:
    """Write a sheet of uint8 images, each [H, W], [H, W, 1] or [H, W, 3], with a caption below each; return the path.

    Small images are enlarged without smoothing, so that single pixels (masks, kernels) can be seen.

    Raises: RepFoldError for another ending than .svg, .png and .pdf, no images, captions that are not one an image, or
    an image of another shape or type.
    """
    ending = _ending(path)
    _check(images, captions)
    from matplotlib.figure import Figure

    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns, (1.72 if captions else 1.5) * rows), dpi=_DPI, layout="tight")
    plots = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, plot in enumerate(plots):
        plot.set_axis_off()
        if index < len(images):
            pixels = images[index].squeeze(-1) if images[index].shape[-1:] == (1,) else images[index]
            plot.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            # parse_math: a caption with two dollar signs is no formula.
            plot.set_title(captions[index] if captions else "", fontsize=7, y=-0.16, parse_math=False)
    return _save(figure, Path(path), ending)


def _ending(path: str | os.PathLike[str]) -> str:
    ending = Path(path).suffix.lower()
    if ending not in _WRITERS:
        raise RepFoldError(f"A picture cannot be written to {path}: '{ending}' is unknown. {nearest(ending, _WRITERS)}")
    return ending


def _check(images: Sequence[np.ndarray], captions: Sequence[str]) -> None:
    if not images:
        raise RepFoldError("There are no images to draw a sheet of.")
    if captions and len(captions) != len(images):
        raise RepFoldError(f"{len(captions)} captions were given for {len(images)} images. Give one an image, or none.")
    for index, image in enumerate(images):
        gray_or_colour = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in (1, 3))
        if image.dtype != np.uint8 or not gray_or_colour or not image.size:
            raise RepFoldError(
                f"Image {index} has type {image.dtype} and shape {list(image.shape)}; a sheet takes uint8 images "
                "[H, W], [H, W, 1] or [H, W, 3]."
            )


def _write_svg(chart: Chart, path: Path) -> Path:
    atomic.write_text(path, svg_file(chart))
    return path


def _write_other(chart: Chart, path: Path) -> Path:
    from matplotlib.figure import Figure

    # The same axes as the SVG's; a Figure made without pyplot keeps no global state and needs no display.
    figure = Figure(figsize=(WIDTH / 70, HEIGHT / 70), dpi=_DPI, layout="tight")
    plot = figure.subplots()
    for series in chart.series:
        _plot(plot, series, chart)
    spanned = axes(chart)
    plot.set_yscale("log" if chart.log else "linear")
    plot.set_xlim(spanned.x.low, spanned.x.high)
    plot.set_ylim(spanned.y.low, spanned.y.high)
    plot.set_xticks(spanned.x_ticks, tick_labels(spanned.x_ticks))
    plot.set_yticks(spanned.y_ticks, tick_labels(spanned.y_ticks, log=chart.log))
    plot.minorticks_off()
    plot.set_xlabel(chart.x_label, parse_math=False)
    plot.set_title(chart.title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
    plot.grid(axis="y", color="#e4e7eb")
    plot.spines[["top", "right", "left"]].set_visible(False)
    plot.set_axisbelow(True)
    if len(chart.series) > 1:
        for text in plot.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)
    return _save(figure, path, path.suffix.lower())


def _plot(plot: Plot, series: Series, chart: Chart) -> None:
    colour = palette.LIGHT[palette.colour(series.style)]
    x = np.asarray(series.x, dtype=float)
    plot.plot(
        x,
        _gaps(series.y),
        color=colour,
        linestyle=":" if series.dashed else "-",
        linewidth=1.6,
        marker=palette.MATPLOTLIB_SHAPES[palette.shape(series.style)],
        markersize=4,
        markevery=max(1, len(x) // 7),
        label=chart.name(series),
    )
    if series.low is not None and series.high is not None:
        plot.fill_between(x, _gaps(series.low), _gaps(series.high), color=colour, alpha=0.16, linewidth=0)


def _gaps(values: Sequence[float | None]) -> np.ndarray:
    return np.array([value if finite(value) else np.nan for value in values], dtype=float)


def _save(figure: Figure, path: Path, ending: str) -> Path:
    # Without a date and with a fixed salt the same picture is the same file.
    from matplotlib import rc_context

    with atomic.replacing(path) as temporary, rc_context({"svg.hashsalt": "repfold"}):
        figure.savefig(temporary, format=ending.removeprefix("."), metadata={_UNSTABLE[ending]: None})
    return path


_WRITERS: dict[str, Callable[[Chart, Path], Path]] = {".svg": _write_svg, ".png": _write_other, ".pdf": _write_other}
_UNSTABLE = {".svg": "Date", ".png": "Software", ".pdf": "CreationDate"}  # what a writer would add of the moment
