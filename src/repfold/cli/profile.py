"""``repfold profile``: what a network costs, layer by layer, its train form beside its folded form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.model_flags import ModelFlags
from repfold.cli.terminal import echo, print_json
from repfold.counted import counted
from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from repfold.fold import Comparison, Cost
    from repfold.models import Description

MEASURES = {
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "traffic": "memory traffic",
    "winograd": "Winograd multiplies",
}


def profile(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    image_size: int | None = None,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Count parameters, multiply-adds, memory traffic and Winograd multiplies for one image, before and after folding.

    Memory traffic is in values read and written, weights included (ShuffleNet V2). Winograd multiplies are those of
    F(2x2, 3x3) for 3x3 convolutions of stride 1, and the multiply-adds of everything else.

    Args:
        model: A run directory, a model file, an ONNX file, a model's name, or package.module:factory.
        image_size: Side of the square image; that of a trained model's preprocessing, else 224.
        json: Print one JSON object: both forms' totals and layers, and the layers side by side.
    """
    from repfold import models
    from repfold.fold import compare_costs

    if image_size is not None and flags.example is not None:
        raise RepFoldError("--image-size and --example both say how large the input is: give one.")
    opened, x = flags.open(model)
    if image_size is not None:
        x = models.example_input(opened, _square(image_size, opened.description))
    comparison = compare_costs(opened.network, x)
    if json:
        print_json({"model": model, "example": list(x.shape), **comparison.to_dict()})
    else:
        _print(comparison, tuple(x.shape))


def _square(side: int, description: Description) -> tuple[int, int, int, int]:
    if side < 1:
        raise RepFoldError(f"--image-size {side}: an image has at least one pixel.")
    preprocessing, architecture = description.preprocessing, description.architecture
    channels = preprocessing.channels if preprocessing else architecture.in_channels if architecture else 3
    return (1, channels, side, side)


def _print(comparison: Comparison, shape: tuple[int, ...]) -> None:
    from repfold.report.tables import Table, columns, to_text

    heads = columns("layer", *(head for title in MEASURES.values() for head in (f"#{title}", "#folded")))
    rows = [(layer.name, *_cells(layer.train, layer.folded)) for layer in comparison.layers]
    rows.append(("total", *_cells(comparison.train.total, comparison.folded.total)))
    echo(to_text(Table(heads, tuple(rows))))
    echo(
        f"\n{counted(comparison.regions, 'region')} to fold; input {'x'.join(map(str, shape))}. "
        "Memory traffic in values."
    )


def _cells(train: Cost | None, folded: Cost | None) -> tuple[str, ...]:
    return tuple(
        _short(getattr(cost, measure)) if cost is not None else "" for measure in MEASURES for cost in (train, folded)
    )


def _short(count: int) -> str:
    """Three digits and a unit: 9.11M."""
    value, unit = float(count), ""
    for larger in ("k", "M", "G", "T"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:#.3g}".rstrip(".") + unit if unit else str(count)
