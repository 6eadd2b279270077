"""Shapes inferred without PyTorch's rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from repfold.graph.operators import run


class TooSlow(Exception):
    """Following free sizes takes longer than it may."""


class NotRead(Exception):
    """The file cannot be read, or not in this way; the message says why."""


def is_number(size: object, number: int) -> bool:
    """Whether a size is this number, which may have a special meaning; a free size never is."""
    return isinstance(size, int) and size == number


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Without PyTorch's own rule, which fixes free sizes."""
    if x.shape[-1] != weight.shape[1]:
        raise NotRead(f"a matrix of {list(weight.shape)} does not apply to {x.shape[-1]} features")
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _view(x: Tensor, size: tuple[Any, ...]) -> Tensor:
    if not bool(math.prod(x.shape) == math.prod(size)):
        raise NotRead(f"{list(x.shape)} does not hold as many numbers as {list(size)}")
    return x.new_empty(size)


def _batch_norm(x: Tensor, **state: Any) -> Tensor:
    if any(x.shape[1] != state[name].shape[0] for name in ("weight", "bias", "running_mean", "running_var")):
        raise NotRead(f"its statistics are not those of {x.shape[1]} channels")
    return x


def _same(x: Tensor, **rest: Any) -> Tensor:
    return x


def _cat(xs: tuple[Tensor, ...], dim: int) -> Tensor:
    first = [*xs[0].shape[:dim], *xs[0].shape[dim + 1 :]]
    if not all(x.dtype == xs[0].dtype and _alike([*x.shape[:dim], *x.shape[dim + 1 :]], first) for x in xs):
        return torch.cat(xs, dim)
    return xs[0].new_empty([*first[:dim], sum(x.shape[dim] for x in xs), *first[dim:]])


def _binary(op: str) -> Callable[..., Tensor]:
    """The operand's shape where both are equal expressions or one is a number; else PyTorch's rule."""

    def rule(x: Tensor, other: object) -> Tensor:
        plain = not isinstance(other, Tensor) and x.dtype.is_floating_point
        if plain or (isinstance(other, Tensor) and other.dtype == x.dtype and _alike(x.shape, other.shape)):
            return x
        found: Tensor = run(op, {"x": x, "other": other})
        return found

    return rule


def _alike(a: Sequence[object], b: Sequence[object]) -> bool:
    return len(a) == len(b) and all(map(written_alike, a, b))


def written_alike(a: object, b: object) -> bool:
    """Whether two sizes are the same expression."""
    if isinstance(a, torch.SymInt) and isinstance(b, torch.SymInt):
        return bool(a.node.expr == b.node.expr)
    return isinstance(a, int) and isinstance(b, int) and a == b


SAME = (
    "relu",
    "clamp",
    "leaky_relu",
    "elu",
    "sigmoid",
    "tanh",
    "hardswish",
    "hardsigmoid",
    "mish",
    "softplus",
    "dropout",
)

# Operators whose shape is computed here: PyTorch's own rule is slow, or fixes a free size.
RULES: dict[str, Callable[..., Tensor]] = {
    "linear": _linear,
    "view": _view,
    "batch_norm": _batch_norm,
    "cat": _cat,
    **{op: _same for op in SAME},
    **{op: _binary(op) for op in ("add", "sub", "mul")},
}
