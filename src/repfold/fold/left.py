"""What was left, and why: every norm, scale or layer beside another linear one that stays has a reason."""

from __future__ import annotations

from repfold.fold.pieces import Apply, Concat, Opaque, Piece, Sum
from repfold.fold.plan import Plan
from repfold.graph.graph import Value

READ_ELSEWHERE = "something else reads what it is computed from, so a fold would compute that twice"


def explain(plan: Plan) -> list[tuple[str, str]]:
    """Names and reasons."""
    known = {item.value: (label(plan, item.value), item.reason) for item in plan.left}
    return [*dict.fromkeys([*known.values(), *((label(plan, v), r) for v, r in _silent(plan) if v not in known)])]


def _silent(plan: Plan) -> list[tuple[Value, str]]:
    """Norms and scales that stay behind a linear layer though no law refused them."""
    gone = {value for region in plan.regions for value in region.interior}
    found = []
    for value, piece in plan.pieces.items():
        if value in gone or not isinstance(piece, Apply) or piece.is_free or piece.is_kernel or not piece.constants:
            continue
        if _follows_a_kernel(plan, piece.source):
            found.append((value, READ_ELSEWHERE))
    return found


def _follows_a_kernel(plan: Plan, value: Value) -> bool:
    piece: Piece | None = plan.pieces.get(value)
    while isinstance(piece, Apply) and not piece.is_kernel:
        piece = plan.pieces.get(piece.source)
    return isinstance(piece, (Apply, Sum, Concat)) or (isinstance(piece, Opaque) and piece.reason is not None)


def label(plan: Plan, value: Value) -> str:
    """The module that a value is the output of, or its operator in the module that calls it."""
    layer = value.scope and not any(plan.recorded.copy.get_submodule(value.scope).children())
    return value.scope if layer else ".".join(part for part in (value.scope, value.name) if part)
