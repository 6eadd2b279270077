"""What folding a module gives, before it is proved as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from repfold.fold.certificate import FoldedRegion
from repfold.fold.compare import Refold
from repfold.graph.graph import Check

Build = Callable[[tuple[Check, ...]], nn.Module]


@dataclass(frozen=True)
class Folded:
    """A folded module.

    Args:
        build: the module, which refuses sizes on which one of the given checks does not hold.
        refold: the same of the network's float64 twin, followed on the same example.
        left: names and reasons.
        fixed: sizes that it needs.
        checks: sizes that its forward decides by.
        remarks: notes for the user on how it was folded.
        by_parts: the module folded part by part instead, which takes every size that the network takes.
    """

    build: Build
    refold: Refold
    regions: list[FoldedRegion]
    left: list[tuple[str, str]]
    fixed: tuple[Check, ...] = ()
    checks: tuple[Check, ...] = ()
    remarks: list[str] = field(default_factory=list)
    by_parts: Callable[[], Folded] | None = None
