"""PyTorch's symbolic sizes as expressions of ours."""

from __future__ import annotations

from typing import Any

import sympy
import torch
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic

from repfold.graph.sizes import Expression, size_of


class UnknownSize(Exception):
    """A size is computed in a way that has no expression here; the message names it."""


class Symbols:
    """The sizes of one run: which symbol is which axis of which input."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.known: dict[sympy.Symbol, Expression] = {}
        self.plain_symbols: dict[sympy.Expr, Any] = {}
        self.seen: dict[sympy.Expr, Any] = {}

    def name(self, size: Any, axis: tuple[int, int]) -> None:
        """Register ``size`` as that of ``axis``: (input, axis)."""
        if isinstance(size, torch.SymInt) and isinstance(size.node.expr, sympy.Symbol):
            self.known[size.node.expr] = size_of(*axis)

    def plain(self, size: Any, env: Any) -> Any:
        """A symbol for a computed size, the same for equal expressions."""
        if not isinstance(size, torch.SymInt) or isinstance(size.node.expr, (sympy.Symbol, sympy.Integer)):
            return size
        expr, hint = env.simplify(size.node.expr), size.node.hint
        if isinstance(expr, (sympy.Symbol, sympy.Integer)) or hint < 2:
            return size
        if expr not in self.plain_symbols:
            source = ConstantSource(f"size{len(self.plain_symbols)}")
            symbol = env.create_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=None)
            self.known[symbol] = self._convert(expr)
            self.plain_symbols[expr] = env.create_symintnode(symbol, hint=hint, source=source)
        return self.plain_symbols[expr]

    def tied(self) -> list[tuple[Expression, Any]]:
        """Pairs of a registered size and another expression that an operator requires it to equal."""
        pairs = [(size, self._convert(self.env.simplify(symbol))) for symbol, size in list(self.known.items())]
        return [(computed, now) for computed, now in pairs if computed != now]

    def number(self, value: Any) -> Any:
        """A SymInt or SymFloat as a number or an Expression, simplified by the equalities known so far."""
        if not isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return value
        return self._convert(self.env.simplify(value.node.expr))

    def condition(self, expr: sympy.Basic) -> Any:
        """A condition of sympy as an Expression of the inputs' sizes."""
        return self._convert(expr)

    def _convert(self, expr: Any) -> Any:
        if expr not in self.seen:
            self.seen[expr] = self._converted(expr)
        return self.seen[expr]

    def _converted(self, expr: Any) -> Any:
        if expr in (sympy.true, sympy.false):
            return bool(expr)
        if isinstance(expr, sympy.Symbol):
            if expr not in self.known:
                raise UnknownSize(f"the size {expr} depends on values, not on sizes")
            return self.known[expr]
        if expr.is_Integer:
            return int(expr)
        if expr.is_Number:
            return float(expr)
        if isinstance(expr, sympy.Pow) and expr.exp == sympy.Rational(1, 2):
            return Expression("sqrt", (self._convert(expr.base),))
        name = type(expr).__name__
        operands = [self._convert(part) for part in expr.args]
        if name in _ROUNDED_QUOTIENTS and isinstance(operands[0], Expression) and operands[0].op == "/":
            a, b = operands[0].operands
            return _ceiling(a, b) if name in ("CeilToInt", "ceiling") else Expression("//", (a, b))
        if name not in _OPERATIONS:
            raise UnknownSize(f"a size is computed by {name}")
        return Expression(_OPERATIONS[name], tuple(operands))


def _ceiling(a: Any, b: object) -> Expression:
    return Expression("*", (-1, Expression("//", (Expression("*", (-1, a)), b))))


_ROUNDED_QUOTIENTS = ("CeilToInt", "FloorToInt", "TruncToInt", "ceiling", "floor")

# PyTorch's and sympy's functions of sizes -> ours.
_OPERATIONS = {
    "Add": "+",
    "Mul": "*",
    "FloorDiv": "//",
    "CleanDiv": "//",
    "Mod": "%",
    "PythonMod": "%",
    "Max": "max",
    "Min": "min",
    "IntTrueDiv": "/",
    "FloatTrueDiv": "/",
    "Pow": "**",
    "PowByNatural": "**",
    "FloatPow": "**",
    "ToFloat": "float",
    "CeilToInt": "ceil",
    "FloorToInt": "floor",
    "TruncToInt": "int",
    "ceiling": "ceil",
    "floor": "floor",
    "OpaqueUnaryFn_sqrt": "sqrt",
    "Equality": "==",
    "Unequality": "!=",
    "StrictLessThan": "<",
    "LessThan": "<=",
    "StrictGreaterThan": ">",
    "GreaterThan": ">=",
    "And": "and",
    "Or": "or",
    "Not": "not",
}
