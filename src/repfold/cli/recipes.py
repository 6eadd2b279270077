"""``repfold recipes``: the recipes that come with RepFold."""

from __future__ import annotations

import textwrap
from typing import Annotated

import tyro

from repfold.cli.terminal import echo, print_json

_WIDTH = 118


def recipes(name: Annotated[str | None, tyro.conf.Positional] = None, /, *, json: bool = False) -> None:
    """List the recipes that come with RepFold and what they reached, or print one, complete, to begin one's own with.

    A recipe may stand for a table of runs: what varies is given with each figure.

    Args:
        name: The recipe to print, with every figure that is published or was reached, and where that is recorded.
        json: Print one JSON object: the recipes with their figures, or the fields of the one.
    """
    from dataclasses import asdict

    from repfold.train import recipe_file
    from repfold.train.recipe_remarks import in_brief, remarks

    texts = recipe_file.shipped()
    if name is not None:
        recipe = recipe_file.find(name)
        found = remarks(texts.get(name, ""))
        if json:
            print_json(asdict(recipe))
            return
        for remark in found:
            echo(f"# {remark.kind} {remark.flags()}".rstrip() + f": {remark.text}")
        echo(recipe_file.to_toml(recipe), end="")
        return
    if json:
        known = {
            name: {"about": recipe_file.first_comment(text), "results": [asdict(remark) for remark in remarks(text)]}
            for name, text in texts.items()
        }
        print_json(known)
        return
    for name, text in texts.items():
        echo(textwrap.shorten(f"{name}: {recipe_file.first_comment(text)}", _WIDTH, placeholder=" …"))
        if figures := remarks(text):
            echo(f"    {textwrap.shorten(in_brief(figures), _WIDTH - 4, placeholder=' …')}")
    echo("\nUse one with: repfold train DATA --recipe NAME; see all of its figures with: repfold recipes NAME")
