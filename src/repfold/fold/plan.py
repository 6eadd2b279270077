"""The plan of a fold: the graph, what every value is, and the regions chosen. Nothing is rewritten yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from repfold.fold.borders import with_filled_borders
from repfold.fold.constants import Constants
from repfold.fold.pieces import Piece
from repfold.fold.read import read
from repfold.fold.regions import Region, Unfolded, choose, grow
from repfold.graph.record import Recorded, record


@dataclass(frozen=True)
class Plan:
    """What a fold of a recorded network will do: the regions to fold, and what is left and why."""

    recorded: Recorded
    pieces: dict[Any, Piece]
    constants: Constants
    regions: tuple[Region, ...]
    left: tuple[Unfolded, ...]


def make_plan(network: nn.Module, arguments: tuple[object, ...], policy: str = "auto") -> Plan:
    """Record, read, grow and choose; ``network`` is left untouched, in the mode that it is in.

    Raises: NotFollowed when its forward cannot be followed as a whole, NotCopied when it cannot be copied.
    """
    return plan_graph(record(network, arguments), policy, trains=network.training)


def plan_graph(recorded: Recorded, policy: str = "auto", *, trains: bool = False) -> Plan:
    """Read, grow and choose in a graph that came in by any door."""
    bordered = with_filled_borders(recorded.graph)
    if bordered is not recorded.graph:
        plan = _plan(recorded.rewritten(bordered, recorded.state), policy, trains=trains)
        inside = {value for region in plan.regions for value in region.interior}
        if all(
            value in inside for value in bordered.values if value not in recorded.graph.position and value.op == "pad"
        ):
            return plan
    return _plan(recorded, policy, trains=trains)


def _plan(recorded: Recorded, policy: str, *, trains: bool) -> Plan:
    constants = Constants(recorded.graph)
    pieces = read(recorded.graph, constants)
    regions, left = choose(grow(constants, recorded.state, pieces, trains=trains), policy)
    return Plan(recorded, pieces, constants, tuple(regions), tuple(left))
