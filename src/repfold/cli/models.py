"""``repfold models``: the networks that come with RepFold, what they cost, and where trained weights can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.terminal import echo, print_json

if TYPE_CHECKING:
    from repfold.models.costs import ModelCosts

SEARCH = "-hs"


def models(pattern: Annotated[str | None, tyro.conf.Positional] = None, /, *, json: bool = False) -> None:
    """List networks by name: parameters and multiply-adds of the form that is trained and of the folded one.

    Counted for one image and 1000 classes. Weights are repositories of the Hugging Face Hub, for train's --init.

    Args:
        pattern: A name, a part of one, or wildcards, as 'repvgg-a*'; all if not given. Of one network all is told.
        json: Print one JSON list.
    """
    from dataclasses import asdict

    from repfold.models import costs

    found = costs.find(pattern)
    if json:
        print_json([asdict(entry) for entry in found])
    elif len(found) == 1:
        _tell(found[0])
    elif pattern is None:
        searches = [entry.name for entry in found if entry.name.endswith(SEARCH)]
        _list(tuple(entry for entry in found if entry.name not in searches))
        echo(f"Of each repopt-vgg also the network that its scales are searched with: {searches[0]} and so on.")
    else:
        _list(found)


def _list(found: tuple[ModelCosts, ...]) -> None:
    from repfold.report.tables import Table, columns, to_text
    from repfold.report.wording import large

    heads = columns("model", "#px", "#params", "#folded", "#mult-adds", "#folded", "weights for --init")
    rows = tuple(
        (
            entry.name,
            str(entry.image_size),
            large(entry.parameters),
            large(entry.folded_parameters),
            large(entry.multiply_adds),
            large(entry.folded_multiply_adds),
            entry.weights[0].repository if entry.weights else "",
        )
        for entry in found
    )
    echo(to_text(Table(heads, rows)))
    echo("\nLicences of weights, and more of one model: repfold models NAME")


def _tell(entry: ModelCosts) -> None:
    from repfold.report.wording import large

    preset = "" if entry.preset == "imagenet" else f" --preset {entry.preset}"
    counts = (entry.parameters, entry.folded_parameters, entry.multiply_adds, entry.folded_multiply_adds)
    parameters, folded_parameters, multiply_adds, folded = map(large, counts)
    echo(f"{entry.name}")
    echo(f"  image          {entry.image_size} px, 1000 classes")
    echo(f"  parameters     {parameters}; folded {folded_parameters}")
    echo(f"  multiply-adds  {multiply_adds}; folded {folded}")
    for weights in entry.weights:
        echo(f"  weights        {weights.repository}  ({weights.image_size} px, licence: {weights.licence})")
    if entry.weights:
        echo(f"  fine-tune      repfold train DATA --init {entry.weights[0].repository}")
    else:
        echo("  weights        none are known")
    echo(f"  from scratch   repfold train DATA --model {entry.name}{preset}")
