"""``repfold find-lr``: at which learning rates the loss falls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.recipe_flags import RecipeFlags, given
from repfold.cli.terminal import echo

if TYPE_CHECKING:
    from repfold.train.find_lr import RangeTest


def find_lr(
    data: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    *,
    settings: Annotated[RecipeFlags, tyro.conf.arg(name="")] = RecipeFlags(),  # noqa: B008
    recipe: str | None = None,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
    plot: Path | None = Path("find-lr.svg"),
    trust: bool = False,
    json: bool = False,
) -> None:
    """Train a few steps at ever higher learning rates, draw the loss over them, and suggest a base rate.

    Flags and recipe are those of repfold train. The weights are thrown away.

    Args:
        data: A folder of class folders of images, CIFAR or IDX files, or digits.
        recipe: A recipe that comes with RepFold, a TOML file, or a run directory.
        low: The lowest rate.
        high: The highest rate; the test ends before it when the loss explodes.
        steps: Steps to train.
        plot: Where to draw the loss over the rate, an .svg file.
        trust: Run the code that a recipe file, a run or a teacher names: only for what you made yourself.
        json: Print one JSON object.
    """
    from json import dumps

    from repfold.cli.console import Console
    from repfold.cli.train_display import TrainDisplay
    from repfold.train import Recipe, recipe_code, recipe_file
    from repfold.train.find_lr import find_lr as test_range

    flags = given(settings) | ({"data": data} if data else {})
    chosen = (recipe_file.find(recipe) if recipe else Recipe()).replace(**flags)
    if recipe and recipe_file.is_path(recipe) and not trust:
        recipe_code.check(chosen, flags, recipe)
    with TrainDisplay(Console(stderr=True)) as display:
        found = test_range(chosen, low=low, high=high, steps=steps, trust=trust, on_event=display)
    drawn = plot is not None and len(found.rates) > 1
    if plot is not None and drawn:
        from repfold.report.lr_plot import write_range_plot

        write_range_plot(found.rates, found.losses, found.smoothed, plot)
    written = str(plot) if drawn else None
    print(dumps({**found.to_dict(), "plot": written})) if json else _print(found, written)


def _print(found: RangeTest, plot: str | None) -> None:
    echo(f"{len(found.rates)} steps, from {found.rates[0]:.3g} to {found.rates[-1]:.3g}: {found.stopped}.")
    if found.suggestion is None:
        echo("The loss fell at no rate: try more steps, a wider range, or look at the data and the network.")
    else:
        echo(f"The loss falls fastest at {found.steepest:.3g} and is lowest at {found.limit:.3g}.")
        echo(f"Suggestion: --lr {found.suggestion:.2g} (for a schedule that ends near 0, and this batch)")
    if plot is not None:
        echo(f"Written: {plot}")
