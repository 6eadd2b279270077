"""Finding norms inside branches: what keeps branches from being one convolution while a network trains."""

from __future__ import annotations

from repfold.fold.left import label
from repfold.fold.pieces import Sum
from repfold.fold.plan import Plan
from repfold.fold.regions import Region
from repfold.graph.graph import Value

NORMS = ("batch_norm", "instance_norm")
Position = tuple[str, str, int]  # scope, operator, which one of its kind there


def norm_in_branch(training: Plan, evaluated: Plan) -> str | None:
    """The first norm inside a branch, or None. Both plans are of one network, in train mode and in eval mode.

    In eval mode a norm is linear, so a sum that is in a region then but in none in training has a norm to blame.
    """
    before, after = _positions(training), _positions(evaluated)
    summed = {before[v] for region in training.regions for v in region.interior if isinstance(training.pieces[v], Sum)}
    for region in evaluated.regions:
        sums = [v for v in region.interior if isinstance(evaluated.pieces[v], Sum)]
        apart = [value for value in sums if after[value] not in summed]
        for value in region.interior:
            if value.op in NORMS and any(_reaches(value, later, region) for later in apart):
                return label(evaluated, value)
    return None


def _positions(plan: Plan) -> dict[Value, Position]:
    """The position of each value in the network's code, the same in train and eval mode."""
    counts: dict[tuple[str, str], int] = {}
    found: dict[Value, Position] = {}
    for value in plan.recorded.graph.values:
        kind = (value.scope, value.op)
        counts[kind] = counts.get(kind, 0) + 1
        found[value] = (*kind, counts[kind])
    return found


def _reaches(value: Value, later: Value, region: Region) -> bool:
    return value in later.operands or any(
        _reaches(value, operand, region) for operand in later.operands if operand in region.interior
    )
