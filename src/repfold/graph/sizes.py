"""Sizes: whole numbers (and the numbers computed from them) as expressions of the sizes of a graph's inputs.

A size is an int, or an ``Expression`` whose leaves are ("size", input, axis). Two sizes are the same on every input if
their expressions are equal. Other numbers that depend on sizes (a scale of 1/√(H·W), say) are written alike.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch


@dataclass(frozen=True)
class Expression:
    """``op`` of ``operands``; ("size", (input, axis)) is a leaf."""

    op: str
    operands: tuple[Any, ...]  # Size

    def __str__(self) -> str:
        if self.op == "size":
            return "size({}, {})".format(*self.operands)
        if self.op in INFIX or self.op in COMPARISONS:
            return f"({f' {self.op} '.join(map(str, self.operands))})"
        return f"{self.op}({', '.join(map(str, self.operands))})"


Size = int | Expression
InputSizes = Mapping[tuple[int, int], int]  # (input, axis) -> samples

# Operation -> its function of numbers, and of the symbolic numbers of an exported graph.
INFIX: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "/": operator.truediv,
    "**": operator.pow,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{op: lambda *xs, function=function: reduce(function, xs) for op, function in INFIX.items()},
    "max": lambda *xs: reduce(torch.sym_max, xs),
    "min": lambda *xs: reduce(torch.sym_min, xs),
    "float": lambda x: torch.sym_float(x),
    "int": lambda x: torch.sym_int(x),
    "floor": lambda x: math.floor(x),
    "ceil": lambda x: math.ceil(x),
    "sqrt": lambda x: torch.sym_sqrt(x),
    **COMPARISONS,
    "and": lambda *xs: all(xs),
    "or": lambda *xs: any(xs),
    "not": operator.not_,
}


def size_of(input_index: int, axis: int) -> Expression:
    """The Expression for the size of one axis of one input."""
    return Expression("size", (input_index, axis))


def evaluate(size: object, sizes: InputSizes) -> Any:
    """The number that ``size`` is for inputs of these ``sizes``; numbers stay what they are."""
    if not isinstance(size, Expression):
        return size
    if size.op == "size":
        return sizes[size.operands]
    return OPERATIONS[size.op](*(evaluate(operand, sizes) for operand in size.operands))


def with_leaves(size: object, known: Mapping[Expression, Any]) -> Any:
    """``size`` with some of its leaves known; what is computed from numbers alone is computed."""
    if not isinstance(size, Expression):
        return size
    if size.op == "size":
        return known.get(size, size)
    operands = tuple(with_leaves(operand, known) for operand in size.operands)
    if any(isinstance(operand, Expression) for operand in operands):
        return Expression(size.op, operands)
    return OPERATIONS[size.op](*operands)


def leaves(size: object) -> Iterator[tuple[int, int]]:
    """The (input, axis) pairs that ``size`` is computed from."""
    if isinstance(size, Expression):
        if size.op == "size":
            yield size.operands
        else:
            for operand in size.operands:
                yield from leaves(operand)


def minus(a: Size, b: Size) -> int | None:
    """a − b where that is the same for every input, else None."""
    difference = _terms(a)
    for term, factor in _terms(b).items():
        difference[term] = difference.get(term, 0) - factor
    constant = difference.pop(None, 0)
    return constant if not any(difference.values()) else None


def plus(a: Size, b: Size) -> Size:
    """a + b, numbers first."""
    terms = _terms(a)
    for term, factor in _terms(b).items():
        terms[term] = terms.get(term, 0) + factor
    constant = terms.pop(None, 0)
    parts: list[Size] = [constant] if constant else []
    for term, factor in terms.items():
        if factor:
            parts.append(term if factor == 1 else Expression("*", (factor, term)))
    if not parts:
        return 0
    return parts[0] if len(parts) == 1 else Expression("+", tuple(parts))


def product(sizes: tuple[Size, ...]) -> Size:
    """Π sizes, numbers first."""
    constant = math.prod(size for size in sizes if isinstance(size, int))
    factors: list[Size] = []
    for size in sizes:
        if isinstance(size, Expression):
            factors += size.operands if size.op == "*" else (size,)
    constant *= math.prod(factor for factor in factors if isinstance(factor, int))
    symbolic = sorted((factor for factor in factors if isinstance(factor, Expression)), key=str)
    if not symbolic or constant == 0:
        return constant
    parts: list[Size] = [constant, *symbolic] if constant != 1 else [*symbolic]
    return parts[0] if len(parts) == 1 else Expression("*", tuple(parts))


def _terms(size: Size) -> dict[Any, int]:
    """A sum as its terms and their integer factors; the constant's key is None."""
    if isinstance(size, int):
        return {None: size}
    if size.op == "+":
        total: dict[Any, int] = {}
        for operand in size.operands:
            for term, factor in _terms(operand).items():
                total[term] = total.get(term, 0) + factor
        return total
    if size.op == "*" and isinstance(size.operands[0], int):
        rest = size.operands[1:]
        inner = _terms(rest[0]) if len(rest) == 1 else {Expression("*", rest): 1}
        return {term: factor * size.operands[0] for term, factor in inner.items()}
    return {size: 1}


def to_json(size: object) -> Any:
    """A number, or [op, *operands]."""
    return [size.op, *map(to_json, size.operands)] if isinstance(size, Expression) else size


def from_json(content: object) -> Any:
    """What ``to_json`` wrote. Raises: ValueError for an unknown operation or anything else than numbers."""
    if isinstance(content, bool) or not isinstance(content, (int, float, list)):
        raise ValueError(f"{content!r:.60} is no size")
    if not isinstance(content, list):
        return content
    if not content or not isinstance(content[0], str):
        raise ValueError(f"{content!r:.60} is no size")
    op, operands = content[0], tuple(map(from_json, content[1:]))
    if op == "size" and len(operands) == 2 and all(type(operand) is int for operand in operands):
        return Expression(op, operands)
    if op not in OPERATIONS or not operands:
        raise ValueError(f"a size is computed by {op!r:.60}, which is none of {', '.join(OPERATIONS)}")
    return Expression(op, operands)
