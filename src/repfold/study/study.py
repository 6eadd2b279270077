"""A study: arms, each a change of one recipe, trained with the same seeds and compared with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from repfold.train.recipe import Recipe

Changes = Mapping[str, Any]  # recipe field -> value
SCALES = ("small", "medium", "full")


@dataclass(frozen=True)
class Published:
    """A figure of somebody else's for an arm, that stands beside ours; ``differs``: what was not as here."""

    arm: str
    value: float
    metric: str
    source: str
    differs: str = ""
    std: float | None = None


@dataclass(frozen=True)
class Arm:
    """One training of the comparison: its recipe, but for the seed.

    Attributes:
        group: the arm of the file that it comes of; with axes several arms do.
        axes: the values of the axes that make it.
        changes: what it changes of the recipe that all arms share.
        reference: the name of the arm that it is compared with.
        claim: in words, what is true if it is better than the reference.
    """

    name: str
    group: str
    axes: Changes
    changes: Changes
    recipe: Recipe
    reference: str
    claim: str = ""

    @property
    def is_reference(self) -> bool:
        """Whether the others are compared with it."""
        return self.name == self.reference


@dataclass(frozen=True)
class Study:
    """What is compared with what, and how.

    Attributes:
        metric: a column of a run's record, of ``METRICS``.
        epoch: which epoch of a run counts.
        margin: the claim of each arm is that it is better than the reference by more than this.
        before: trainings that come first, once, whose directories arms name: scales that were searched, teachers.
        about: what the scale is: data, sizes, time.
        processes: how many train each trial together, as torchrun starts them.
        best_over: axes whose best value is chosen for each arm, by the other seeds.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    metric: str
    epoch: Literal["last", "best"] = "last"
    margin: float = 0.0
    before: Mapping[str, Recipe] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    scale: str = ""
    about: str = ""
    best_over: tuple[str, ...] = ()
    processes: int = 1

    def arm(self, name: str) -> Arm:
        """Return the arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)
