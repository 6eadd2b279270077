"""Symbolic sizes that record what a forward decided by them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv


class SizeDecisions(ShapeEnv):
    """Records what Python code decides by symbolic sizes, and which sizes PyTorch's own shape rules found to be one.

    Of their other decisions the equalities simplify the sizes.
    """

    # ShapeEnv simplifies every decision so far again with each new one, for the few that a division found to be exact
    # makes simpler: half of the time of a network with many decisions. These may be recorded twice, in two forms.
    _resimplify_floor_div_axioms = property(lambda self: False, lambda self, value: None)

    def __init__(self) -> None:
        super().__init__(duck_shape=False)
        self.decisions: list[tuple[Any, str]] = []
        self.ones: list[Any] = []  # computed sizes that are one here, where PyTorch's rules asked whether they are

    def evaluate_expr(self, orig_expr: object, *arguments: Any, **keywords: Any) -> Any:
        """As in ShapeEnv; a decision on free sizes is recorded with the line of code that made it."""
        result = super().evaluate_expr(orig_expr, *arguments, **keywords)
        line = _deciding_line()
        if getattr(orig_expr, "free_symbols", None):
            if line is not None:
                self.decisions.append((_holding(orig_expr, result), line))
            elif isinstance(orig_expr, sympy.Eq) and orig_expr.rhs == 1 and result:
                self.ones.append(orig_expr.lhs)
        return result

    def removes_ones(self, sizes: Iterable[object]) -> None:
        """Record what a squeeze of axes of these sizes decides: PyTorch takes a free size for one that is never one."""
        for size in sizes:
            if isinstance(size, torch.SymInt):
                self.decisions.append((sympy.Ne(size.node.expr, 1), "squeeze"))


def _holding(expr: object, result: object) -> Any:
    """The condition that held: ``expr``, its negation, or its equality with a number."""
    if str(result) in ("True", "False"):
        return expr if str(result) == "True" else sympy.Not(expr)
    return sympy.Eq(expr, result)


_HERE = __file__.rpartition("/")[0]


def _deciding_line() -> str | None:
    """The file and line that a size was decided in, or None where PyTorch's own rules did."""
    frame: FrameType | None = sys._getframe(2)
    in_python = False  # whether Python's own bool() or int() asked for it, and not an operator
    while frame is not None:
        _, inside_torch, file = frame.f_code.co_filename.rpartition("/torch/")
        if frame.f_code.co_filename.startswith(_HERE):
            return None
        if not inside_torch or file.startswith(("nn/functional", "nn/modules")):
            return f"{file.rsplit('/', 1)[-1]}:{frame.f_lineno}" if in_python else None
        in_python |= file.startswith("__init__")
        if not file.startswith(("fx/experimental", "__init__", "utils/_sympy", "_compile", "_dynamo")):
            return None
        frame = frame.f_back
    return None
