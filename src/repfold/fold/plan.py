"""The plan of a fold: the trace, what every node is, and the regions chosen. Nothing is rewritten yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from repfold.fold.constants import Constants
from repfold.fold.pieces import Piece
from repfold.fold.read import read
from repfold.fold.regions import Left, Region, choose, grow
from repfold.fold.trace import Traced, trace


@dataclass(frozen=True)
class Plan:
    traced: Traced
    pieces: dict[fx.Node, Piece]
    constants: Constants
    regions: tuple[Region, ...]
    left: tuple[Left, ...]


def make_plan(network: nn.Module, arguments: tuple[Any, ...], policy: str = "auto") -> Plan:
    """Trace, read, grow and choose. Raises: Untraceable when forward's Python cannot be followed."""
    traced = trace(network, arguments)
    pieces, constants = read(traced, untie=policy == "always")
    regions, left = choose(grow(traced, pieces), policy)
    return Plan(traced, pieces, constants, tuple(regions), tuple(left))
