"""What a recipe leaves to the weights that it starts from: the network, and what belongs to it."""

from __future__ import annotations

from collections.abc import Collection

from repfold import models
from repfold.errors import RepFoldError
from repfold.train import model_options
from repfold.train.recipe import Recipe


def complete(recipe: Recipe, given: Collection[str]) -> Recipe:
    """Return ``recipe`` with the network of its ``init``, unless "model" is among the fields that were ``given``.

    Its preset, options and channels come with it, where they were not given either. Weights that are folded start the
    plain network.

    Raises: RepFoldError when the weights cannot be had, or do not show of what network they are.
    """
    if not recipe.init or "model" in given:
        return recipe
    found = models.read_pretrained(models.locate(recipe.init), recipe.preset if "preset" in given else None)
    architecture = found.description.architecture
    if architecture is None:
        told = models.architecture_told(found.located)
        preset = f" in the preset {recipe.preset}" if "preset" in given else ""
        raise RepFoldError(
            f"{recipe.init} holds {f'a network called {told}' if told else 'tensors'}, and their names and shapes are "
            f"of no network that RepFold has{preset} ('repfold models' lists them). Say which it is: --model NAME, or "
            "--model package.module:factory for a network of your own."
        )
    if ":" in architecture.name:
        raise RepFoldError(
            f"{recipe.init} is of a network that the code {architecture.name} builds, and a file does not choose what "
            f"code runs. Say it yourself: --model {architecture.name}."
        )
    options = dict(architecture.options)
    if found.description.form == "folded":
        options |= {"block": "plain", "norm": False}
    theirs = {
        "model": architecture.name,
        "preset": architecture.preset,
        "model_options": model_options.write(options),
        "channels": architecture.in_channels if architecture.in_channels in (1, 3) else 0,
    }
    return recipe.replace(**{name: value for name, value in theirs.items() if name not in given})
