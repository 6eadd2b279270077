"""From the tables of a study's file to its arms: what every arm changes, times the values of every axis."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from repfold.errors import RepFoldError, few, nearest
from repfold.study.study import Arm, Changes
from repfold.train import recipe_file
from repfold.train.recipe import difference

ALL = "all"  # the only arm of a study that has axes alone


def make_arms(
    arms: Mapping[str, Changes],
    axes: Mapping[str, Sequence[Any]],
    *,
    recipe: str,
    settings: Changes,
    reference: str,
    claims: Mapping[str, str],
) -> tuple[Arm, ...]:
    """Return an arm for each of ``arms`` and each combination of the values of ``axes``, in their order.

    Each begins with the recipe of that name or path (an arm may name another) and ``settings``, which all arms share.
    An arm is compared with the arm ``reference`` at the same values of the axes, or, when ``reference`` is the full
    name of one ("linear, lr=0.1"), with that one.

    Raises: RepFoldError for an empty grid, an arm that is no recipe, a reference that is none of them, two arms that
    are the same training.
    """
    for axis, values in axes.items():
        if not values:
            raise RepFoldError(f"axes.{axis} is empty, so that there is nothing to train: give its values.")
        if len({repr(value) for value in values}) < len(values):
            raise RepFoldError(f"axes.{axis} has a value twice: {values}.")
    groups = arms if arms else {ALL: {}} if axes else {}
    if not groups:
        raise RepFoldError("It has neither [arms.NAME] nor [axes]: there is nothing to compare.")
    made = [
        _arm(group, changes, dict(zip(axes, values, strict=True)), recipe, settings, bool(arms))
        for group, changes in groups.items()
        for values in itertools.product(*axes.values())
    ]
    _refuse_twins(made)
    names = {arm.name: arm for arm in made}
    if reference not in names and reference not in groups:
        offer = nearest(reference, [*groups, *names] if arms else list(names))
        raise RepFoldError(f"reference is '{reference}', which is no arm. {offer}")
    for name in claims:
        if name not in names and name not in groups:
            raise RepFoldError(f"claims.{name} is of no arm. {nearest(name, [*groups, *names])}")
    return tuple(_compared(arm, made, reference, claims) for arm in made)


def _arm(group: str, changes: Changes, cell: Changes, recipe: str, settings: Changes, named: bool) -> Arm:
    words = [group] * named + [f"{axis}={_text(value)}" for axis, value in cell.items()]
    name = ", ".join(words)
    both = {"recipe": recipe, **settings, **changes, **cell}
    try:
        start = recipe_file.find(str(both.pop("recipe")))
        return Arm(name, group, cell, {**changes, **cell}, start.replace(**both), "")
    except RepFoldError as error:
        raise RepFoldError(f"arm '{name}': {error}") from error


def _compared(arm: Arm, arms: Sequence[Arm], reference: str, claims: Mapping[str, str]) -> Arm:
    whole = any(other.name == reference for other in arms)
    against = (
        reference
        if whole
        else next(other.name for other in arms if other.group == reference and other.axes == arm.axes)
    )
    claim = claims.get(arm.name, claims.get(arm.group, ""))
    return Arm(arm.name, arm.group, arm.axes, arm.changes, arm.recipe, against, claim)


def _refuse_twins(arms: Sequence[Arm]) -> None:
    for one, other in itertools.combinations(arms, 2):
        if not difference(one.recipe, other.recipe):
            names = few([f"'{one.name}'", f"'{other.name}'"])
            raise RepFoldError(f"The arms {names} are the same training: change something in one, or remove it.")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "/".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
