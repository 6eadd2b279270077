"""Finding norms inside branches: what keeps branches from being one convolution while a network trains."""

from __future__ import annotations

from torch import fx

from repfold.fold.pieces import Apply, Sum
from repfold.fold.plan import Plan
from repfold.fold.regions import Region


def norm_in_branch(training: Plan, evaluated: Plan) -> str | None:
    """The first norm inside a branch, or None. Both plans are of one network, in train mode and in eval mode.

    In eval mode a norm is linear, so a sum that is in a region then but in none in training has a norm to blame.
    """
    summed = {n.name for region in training.regions for n in region.interior if isinstance(training.pieces[n], Sum)}
    for region in evaluated.regions:
        apart = [n for n in region.interior if isinstance(evaluated.pieces[n], Sum) and n.name not in summed]
        for node in region.interior:
            piece = evaluated.pieces[node]
            if isinstance(piece, Apply) and piece.is_norm and any(_reaches(node, later, region) for later in apart):
                return str(node.target) if node.op == "call_module" else node.name
    return None


def _reaches(node: fx.Node, later: fx.Node, region: Region) -> bool:
    return node in later.all_input_nodes or any(
        _reaches(node, operand, region) for operand in later.all_input_nodes if operand in region.interior
    )
