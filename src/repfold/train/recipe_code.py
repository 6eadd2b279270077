"""Code that a recipe names: imported at the word of the user, never at that of a file alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from repfold.errors import RepFoldError
from repfold.train.recipe import Recipe
from repfold.train.settings import resolve

if TYPE_CHECKING:
    from repfold.models import Description

# What a factory is found by, and called with.
_NAMES_CODE = ("model", "model_options", "norm", "preset")


def builds(recipe: Recipe, description: Description) -> bool:
    """Whether the network that a model file describes is to be built by the code of ``recipe``, called as it says.

    After training that code has just run; a file that names any other, in a directory from elsewhere, is not believed.
    """
    found = description.architecture
    options = json.loads(json.dumps(resolve(recipe).model.plain_options))
    return found is not None and (found.name, found.preset, found.options) == (recipe.model, recipe.preset, options)


def check(recipe: Recipe, given: Collection[str], source: str) -> None:
    """Raise RepFoldError when the network of ``recipe`` is built by code that the file ``source`` names or directs.

    ``given``: the fields that the user gave otherwise, as on the command line. A network of RepFold is no code.
    """
    if ":" not in recipe.model:
        return
    default = Recipe()
    foreign = [name for name in _NAMES_CODE if name not in given and getattr(recipe, name) != getattr(default, name)]
    if foreign:
        flags = " ".join(f"--{name.replace('_', '-')} '{getattr(recipe, name)}'" for name in foreign)
        raise RepFoldError(
            f"{source} says {', '.join(foreign)} of a network that '{recipe.model}' builds: that is code, which runs "
            f"with your rights. If it is yours, or you trust whoever wrote it, say so: --trust. Or say it yourself: "
            f"{flags}."
        )
