"""Arms: runs whose recipes differ in nothing but the seed. Statistics are taken within an arm."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from repfold.report import wording
from repfold.report.numbers import finite, number
from repfold.report.records import Record, Run


@dataclass(frozen=True)
class Arm:
    """Runs of one recipe, at least one, and the style that they are drawn with."""

    label: str
    runs: tuple[Run, ...]
    style: int

    @property
    def n(self) -> int:
        """How many runs the arm has."""
        return len(self.runs)

    @property
    def title(self) -> str:
        """The label, with n when there are several runs."""
        return self.label if self.n == 1 else f"{self.label} (n = {self.n})"


class Curve(NamedTuple):
    """A quantity over the epochs of an arm: the runs' mean, lowest and highest value; ``None`` where none is finite."""

    epochs: tuple[int, ...]
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class Spread(NamedTuple):
    """Mean and sample standard deviation over ``n`` runs; ``deviation`` is ``None`` for fewer than two."""

    mean: float
    deviation: float | None
    n: int


def group(runs: Sequence[Run]) -> tuple[Arm, ...]:
    """Return the arms in order of first appearance. A run without a recipe is an arm by itself."""
    together: dict[str, list[Run]] = {}
    for index, run in enumerate(runs):
        key = recipe_key(run.recipe) if run.recipe else f"run {index}"
        together.setdefault(key, []).append(run)
    members = [tuple(arm) for arm in together.values()]
    labels = _labels(members)
    return tuple(Arm(label, arm, style) for style, (label, arm) in enumerate(zip(labels, members, strict=True)))


def recipe_key(recipe: Mapping[str, object]) -> str:
    """Return a text that two recipes share exactly when they differ in nothing but the seed."""
    return json.dumps({key: recipe[key] for key in sorted(recipe) if key != "seed"}, sort_keys=True, default=str)


def differing_keys(mappings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the keys whose values are not the same in all mappings, in order of first appearance."""
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    return tuple(key for key in keys if len({_worded(mapping, key) for mapping in mappings}) > 1)


def curve(arm: Arm, key: str) -> Curve:
    """Return one recorded quantity of an arm, epoch by epoch, over the runs that have a finite value there."""
    values: dict[int, list[float]] = {}
    for run in arm.runs:
        for record, value in zip(run.epochs, run.column(key), strict=True):
            values.setdefault(int(record["epoch"]), []).extend([value] if finite(value) else [])
    epochs = tuple(sorted(values))
    columns = [values[epoch] for epoch in epochs]
    return Curve(
        epochs,
        tuple(statistics.fmean(column) if column else None for column in columns),
        tuple(min(column, default=None) for column in columns),
        tuple(max(column, default=None) for column in columns),
    )


def spread(records: Sequence[Record], key: str) -> Spread | None:
    """Return mean and standard deviation of one quantity over records; ``None`` when it is finite in none."""
    values = [value for record in records if finite(value := number(record.get(key)))]
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def seed_notes(arms: Sequence[Arm]) -> tuple[str, ...]:
    """Return a warning for each arm that has two runs of one seed, whose spread is then too small."""
    notes = []
    for arm in arms:
        seeds = [_worded(run.recipe, "seed") for run in arm.runs]
        if len(set(seeds)) < len(seeds):
            notes.append(f"{arm.label}: two runs share a seed, so that they are not independent and n is overstated.")
    return tuple(notes)


def _worded(mapping: Mapping[str, object], key: str) -> str:
    return wording.plain(mapping[key]) if key in mapping else wording.ABSENT


def _labels(members: Sequence[tuple[Run, ...]]) -> list[str]:
    """Name each arm by what its runs' names share, or by what its recipe has that the others' have not."""
    shared = [arm[0].name if len(arm) == 1 else _shared_name(arm) for arm in members]
    if all(shared) and len(set(shared)) == len(shared):
        return shared
    recipes = [{key: value for key, value in arm[0].recipe.items() if key != "seed"} for arm in members]
    keys = differing_keys(recipes)[:3]
    labels = [", ".join(f"{key} {_worded(recipe, key)}" for key in keys) for recipe in recipes]
    if all(labels) and len(set(labels)) == len(labels):
        return labels
    return [f"arm {index}" for index in range(1, len(members) + 1)] if len(members) > 1 else ["all runs"]


def _shared_name(runs: Sequence[Run]) -> str:
    """Return what the runs' names begin with, without the seed at its end: cosine-s0, cosine-s1 -> cosine."""
    first, last = min(run.name for run in runs), max(run.name for run in runs)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return re.sub(r"([-_./ ]+(seed|run|s|r)?[-_.= ]*\d*|(?<![a-z])(seed|run)[-_.= ]*\d*)$", "", first[:same])
