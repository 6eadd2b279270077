"""``--minutes``: what ``repfold train`` picks where the user has not said it."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from repfold.cli.console import Console
    from repfold.train import Recipe


def fit(
    recipe: Recipe, flags: Collection[str], minutes: float | None, console: Console, *, from_recipe: bool
) -> Recipe:
    """Return ``recipe`` with model, image size and epochs picked to fit the minutes, and say what was picked.

    Args:
        flags: the fields that were given as flags; they stay.
        minutes: None for the usual ones, which hold on a CPU where no recipe was named.
        from_recipe: whether a recipe was named: of it only the epochs are picked, and only for minutes.

    Raises: RepFoldError for minutes together with epochs, or with several processes.
    """
    from repfold.cli.train_display import TrainDisplay
    from repfold.train import machine, plan
    from repfold.train.recipe import field_types

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if minutes is not None and "epochs" in flags:
        raise RepFoldError("--minutes picks the epochs, and --epochs gives them: leave one of the two out.")
    if minutes is not None and several:
        raise RepFoldError("With several processes say how long to train by --epochs instead of --minutes.")
    given = {*flags, *(["model"] if "init" in flags else [])}
    if from_recipe:
        given |= set(field_types()) - {"epochs"}
    if minutes is None:
        if from_recipe or several or machine.choose(recipe).device.type != "cpu":
            return recipe
        minutes = plan.MINUTES
    if given >= set(plan.FREE) or not recipe.data:
        return recipe
    display = TrainDisplay(console)
    with display:
        planned = plan.plan(recipe, given, minutes, display)
    for label, text in zip(("picked", ""), planned.reasons, strict=False):
        display.line(f"{label:<11}{text}")
    return planned.recipe
