"""``repfold recipes``: the recipes that come with RepFold."""

from __future__ import annotations

from typing import Annotated

import tyro


def recipes(name: Annotated[str | None, tyro.conf.Positional] = None, /, *, json: bool = False) -> None:
    """List the recipes that come with RepFold, or print one, complete, to begin one's own with.

    Args:
        name: The recipe to print.
        json: Print one JSON object: the recipes, or the fields of the one.
    """
    from dataclasses import asdict
    from json import dumps

    from repfold.train import recipe_file

    if name is not None:
        recipe = recipe_file.find(name)
        print(dumps(asdict(recipe)) if json else recipe_file.to_toml(recipe), end="\n" if json else "")
        return
    known = {name: recipe_file.first_comment(text) for name, text in recipe_file.shipped().items()}
    if json:
        print(dumps(known))
        return
    width = max(map(len, known))
    for name, about in known.items():
        print(f"{name:<{width}}  {about}")
    print("\nUse one with: repfold train DATA --recipe NAME")
