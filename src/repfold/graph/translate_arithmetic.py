"""PyTorch's sums, differences, products and powers, translated to the vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from repfold.graph.call import Call, Translation
from repfold.graph.graph import STATE, Value


def add(call: Call) -> Value:
    """x + alpha·y; a product with a matrix and its bias are one linear layer."""
    a, b = call["self"], _scaled(call)
    for x, bias in ((a, b), (b, a)):
        if isinstance(bias, Value) and _takes_bias(x, bias):
            return call.give("linear", x=x["x"], weight=x["weight"], bias=bias)
    return call.give("add", x=a, other=b)


def _scaled(call: Call) -> Any:
    """alpha·other."""
    other, alpha = call["other"], call.arguments.get("alpha", 1)
    if alpha == 1:
        return other
    if not isinstance(other, Value):
        return alpha * other
    scaled = replace(call.give("mul", x=other, other=alpha), shape=other.shape, dtype=other.dtype)
    call.recorder.values[-1] = scaled
    return scaled


def sub(call: Call) -> Value:
    """self − alpha·other."""
    return call.give("sub", x=call["self"], other=_scaled(call))


def reversed_sub(call: Call) -> Value:
    """other − alpha·self."""
    x, alpha = call["self"], call.arguments.get("alpha", 1)
    x = x if alpha == 1 else call.give("mul", x=x, other=alpha)
    if isinstance(call["other"], Value):
        return call.give("sub", x=call["other"], other=x)
    return call.give("add", x=call.give("neg", x=x), other=call["other"])


def _takes_bias(x: object, bias: Value) -> bool:
    """Whether x + bias is one linear layer, which PyTorch decomposes where the input is not contiguous."""
    return (
        isinstance(x, Value)
        and x.op == "linear"
        and x["bias"] is None
        and bias.op == STATE
        and bias.dtype == x.dtype
        and bias.shape == x["weight"].shape[:1]
    )


def binary(op: str) -> Translation:
    """The translation of an operator on ``self`` and ``other``."""
    return lambda call: call.give(op, x=call["self"], other=call["other"])


def div(call: Call) -> Value | None:
    """The quotient; None, so that PyTorch's operator is kept, where it is rounded."""
    return (
        call.give("div", x=call["self"], other=call["other"]) if call.arguments.get("rounding_mode") is None else None
    )


def pow_(call: Call) -> Value | None:
    """A value to a power; None, so that PyTorch's operator is kept, where the base is a number."""
    if not isinstance(call["self"], Value):
        return None
    return call.give("pow", x=call["self"], exponent=call["exponent"])
