"""Python's arithmetic for the graphs of version 1, in bounds: of a file's own numbers it would fill the memory.

Only plain numbers and sequences are bounded; tensors and sizes are computed with as ever.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from repfold.errors import RepFoldError

_WHOLE, _POWER, _ITEMS = 2**63, 64, 100_000


def prod(items: Any) -> Any:
    """The product of the items."""
    _check(len(items) <= _POWER and all(map(_is_small, items)))
    return math.prod(items)


def _is_small(item: object) -> bool:
    return not isinstance(item, int) or abs(item) < _WHOLE


def _sum(a: object, b: object) -> bool:
    return not (isinstance(a, Sequence) and isinstance(b, Sequence)) or len(a) + len(b) <= _ITEMS


def _product(a: object, b: object) -> bool:
    repeated = [len(x) * abs(n) for x, n in ((a, b), (b, a)) if isinstance(x, Sequence) and isinstance(n, int)]
    return _is_small(a) and _is_small(b) and all(length <= _ITEMS for length in repeated)


def _power(a: object, b: object) -> bool:
    return isinstance(a, torch.Tensor) or (_is_small(a) and not (isinstance(b, int) and abs(b) > _POWER))


def _bounded(name: str, in_bounds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    function = getattr(operator, name)

    def call(a: object, b: object) -> Any:
        _check(in_bounds(a, b))
        return function(a, b)

    # torch.fx calls a function by its name; of the operator module's own it writes the sign instead.
    call.__name__ = call.__qualname__ = name
    return call


def _check(in_bounds: bool) -> None:
    if not in_bounds:
        raise RepFoldError("The graph computes with numbers that are too large.")


_CHECKS = {"add": _sum, "iadd": _sum, "mul": _product, "imul": _product, "pow": _power, "ipow": _power}

# The name in a file -> the function that is called.
BOUNDED: dict[str, Callable[..., Any]] = {
    "math.prod": prod,
    **{f"operator.{name}": _bounded(name, check) for name, check in {**_CHECKS, "lshift": _power}.items()},
}
