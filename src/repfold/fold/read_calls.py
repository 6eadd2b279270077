"""How functions, operators and tensor methods read. The table at the end is all that the fold knows of calls."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx

from repfold.algebra import (
    AffineConv,
    Geometry,
    average_pool,
    identity_geometry,
    pixel_shuffle,
    pixel_unshuffle,
    scaling,
    transposed,
)
from repfold.fold.constants import Constants
from repfold.fold.pieces import (
    CHANNELS_LAST,
    CHANNELS_SECOND,
    Apply,
    Concat,
    Cost,
    Opaque,
    Piece,
    Reading,
    Sum,
    Unfoldable,
)
from repfold.fold.read_modules import conv_axes, flat_pads, identity_reading, pad_reading, per_axis, pool_axes
from repfold.fold.trace import Traced

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What a reader may look at: the trace, and which nodes are constants."""

    traced: Traced
    constants: Constants

    def shape(self, node: Any) -> tuple[int, ...]:
        shape = self.traced.shape(node) if isinstance(node, fx.Node) else None
        if shape is None:
            raise Unfoldable("its operand is no tensor")
        return shape

    def is_constant(self, value: Any) -> bool:
        return isinstance(value, (int, float)) or (isinstance(value, fx.Node) and value in self.constants.nodes)

    def tensor(self, value: Any) -> Tensor:
        """The float64 value of a constant node or number."""
        return torch.as_tensor(
            self.constants.value(value) if isinstance(value, fx.Node) else value, dtype=torch.float64
        )

    def optional(self, value: Any) -> Tensor | None:
        return None if value is None else self.tensor(value)

    def constant_shape(self, value: Any) -> tuple[int, ...]:
        """Raises: Unfoldable when ``value`` depends on the input."""
        if not self.is_constant(value):
            raise Unfoldable("its weight depends on the input")
        return self.shape(value) if isinstance(value, fx.Node) else ()

    def is_derived(self, *values: Any) -> bool:
        return any(isinstance(value, fx.Node) and value.op != "get_attr" for value in values)


Reader = Callable[[Context, fx.Node, Arguments], Piece]


def read_conv(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.constant_shape(a["weight"])
    bias_shape = None if a["bias"] is None else context.constant_shape(a["bias"])
    axes = conv_axes(shape[2:], a["stride"], a["padding"], a["dilation"])
    geometry = Geometry(shape[1] * a["groups"], shape[0], axes, a["groups"])
    build = lambda: AffineConv(context.tensor(a["weight"]), context.optional(a["bias"]), geometry)  # noqa: E731
    assert bias_shape is None or bias_shape == (shape[0],)
    return Apply(
        a["input"], Reading(geometry, build), Cost(prod(shape)), True, context.is_derived(a["weight"], a["bias"])
    )


def read_transposed(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.constant_shape(a["weight"])
    n = len(shape) - 2
    axes = conv_axes(shape[2:], a["stride"], a["padding"], a["dilation"])
    extra = per_axis(a["output_padding"], n)
    geometry = transposed(torch.empty(shape, device="meta"), None, a["groups"], axes, extra).geometry

    def build() -> AffineConv:
        return transposed(context.tensor(a["weight"]), context.optional(a["bias"]), a["groups"], axes, extra)

    return Apply(
        a["input"], Reading(geometry, build), Cost(prod(shape)), True, context.is_derived(a["weight"], a["bias"])
    )


def read_linear(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.constant_shape(a["weight"])
    if len(shape) != 2:
        return Opaque("its weight is no matrix")
    geometry = Geometry(shape[1], shape[0])
    build = lambda: AffineConv(context.tensor(a["weight"]), context.optional(a["bias"]), geometry)  # noqa: E731
    derived = context.is_derived(a["weight"], a["bias"])
    return Apply(a["input"], Reading(geometry, build, CHANNELS_LAST), Cost(prod(shape)), True, derived)


def read_matmul(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if context.is_constant(a["input"]) or not context.is_constant(a["other"]):
        return Opaque()
    shape = context.constant_shape(a["other"])
    if len(shape) != 2:
        return Opaque()
    geometry = Geometry(shape[0], shape[1])
    build = lambda: AffineConv(context.tensor(a["other"]).T, None, geometry)  # noqa: E731
    return Apply(a["input"], Reading(geometry, build, CHANNELS_LAST), Cost(prod(shape)), True, True)


def read_batch_norm(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if a["training"] is not False or a["running_mean"] is None:
        raise Unfoldable("it normalises by the batch's own statistics")
    for name in ("running_mean", "running_var", "weight", "bias"):
        if a[name] is not None:
            context.constant_shape(a[name])
    shape = context.shape(a["input"])

    def build() -> AffineConv:
        scale = torch.rsqrt(context.tensor(a["running_var"]) + a["eps"])
        scale = scale if a["weight"] is None else context.tensor(a["weight"]) * scale
        carried = context.tensor(a["running_mean"]) * scale
        return scaling(scale, -carried if a["bias"] is None else context.tensor(a["bias"]) - carried, len(shape) - 2)

    reading = Reading(identity_geometry(shape[1], len(shape) - 2), build)
    return Apply(a["input"], reading, Cost(2 * shape[1]), is_norm=True)


def read_average_pool(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.shape(a["input"])
    axes, divisor = pool_axes(SimpleNamespace(**a), len(shape) - 2), a.get("divisor_override")
    geometry = average_pool(shape[1], axes, divisor).geometry
    return Apply(a["input"], Reading(geometry, lambda: average_pool(shape[1], axes, divisor)))


def read_identity(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return Apply(a["input"], identity_reading(context.shape(a["input"])), is_free=True)


def read_dropout(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if a["training"] is not False and a["p"] != 0:
        raise Unfoldable("it is in train mode, where it is random; call eval()")
    return read_identity(context, node, a)


def read_pad(context: Context, node: fx.Node, a: Arguments) -> Piece:
    pads = flat_pads(tuple(a["pad"]))
    mode = "zeros" if a["mode"] == "constant" else str(a["mode"])
    shape = context.shape(a["input"])
    if len(pads) > len(shape) - 2:
        return Opaque()
    if a["value"] not in (None, 0, 0.0):
        raise Unfoldable("it pads with a value other than 0")
    return Apply(a["input"], pad_reading(shape, pads, mode), is_free=True)


def read_pixel_shuffle(context: Context, node: fx.Node, a: Arguments) -> Piece:
    factor, channels = a["factor"], context.shape(a["input"])[1] // a["factor"] ** 2
    reading = Reading(pixel_shuffle(channels, factor).geometry, lambda: pixel_shuffle(channels, factor))
    return Apply(a["input"], reading, is_free=True)


def read_pixel_unshuffle(context: Context, node: fx.Node, a: Arguments) -> Piece:
    factor, channels = a["factor"], context.shape(a["input"])[1]
    reading = Reading(pixel_unshuffle(channels, factor).geometry, lambda: pixel_unshuffle(channels, factor))
    return Apply(a["input"], reading, is_free=True)


def read_cat(context: Context, node: fx.Node, a: Arguments) -> Piece:
    parts = tuple(a["tensors"])
    rank = len(context.shape(node))
    if a["dim"] % rank != CHANNELS_SECOND or any(context.is_constant(part) for part in parts):
        return Opaque()
    return Concat(parts)


def read_add(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _combine(context, node, a["input"], a["other"], 1.0, float(a.get("alpha", 1)))


def read_sub(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _combine(context, node, a["input"], a["other"], 1.0, -float(a.get("alpha", 1)))


def read_rsub(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _combine(context, node, a["input"], a["other"], -float(a.get("alpha", 1)), 1.0)


def read_mul(context: Context, node: fx.Node, a: Arguments) -> Piece:
    x, factor = a["input"], a["other"]
    if context.is_constant(x):
        x, factor = factor, x
    return _channelwise(context, node, x, factor, lambda value: (value, None))


def read_div(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if a.get("rounding_mode") is not None:
        return Opaque()
    return _channelwise(context, node, a["input"], a["other"], lambda value: (1 / value, None))


def read_neg(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _channelwise(context, node, a["input"], -1.0, lambda value: (value, None))


def _combine(context: Context, node: fx.Node, x: Any, y: Any, x_sign: float, y_sign: float) -> Piece:
    if context.is_constant(x):
        x, y, x_sign, y_sign = y, x, y_sign, x_sign
    if context.is_constant(y):
        scaled = lambda value: (torch.full_like(value, x_sign), y_sign * value)  # noqa: E731
        return _channelwise(context, node, x, y, scaled)
    shape = context.shape(node)
    if not isinstance(y, fx.Node) or context.shape(x) != shape or context.shape(y) != shape:
        return Opaque()
    return Sum(((x, x_sign), (y, y_sign)), Cost(0, prod(shape[1:])))


def _channelwise(
    context: Context,
    node: fx.Node,
    x: Any,
    constant: Any,
    scale_and_shift: Callable[[Tensor], tuple[Tensor, Tensor | None]],
) -> Piece:
    """x scaled and shifted by a constant that is a number or varies along the channels alone."""
    if context.is_constant(x) or not context.is_constant(constant):
        return Opaque()
    shape, constant_shape = context.shape(x), context.constant_shape(constant)
    if context.shape(node) != shape or len(shape) < 2:
        return Opaque()
    aligned = (1,) * (len(shape) - len(constant_shape)) + constant_shape
    varying = [axis for axis, size in enumerate(aligned) if size != 1]
    last = varying == [len(shape) - 1] and len(shape) > 2
    if not last and varying not in ([], [CHANNELS_SECOND]):
        return Opaque()
    channels, dimensions = (shape[-1], 0) if last else (shape[1], len(shape) - 2)

    def build() -> AffineConv:
        scale, shift = scale_and_shift(context.tensor(constant).reshape(-1))
        shift = None if shift is None else shift.expand(channels)
        return scaling(scale.expand(channels), shift, dimensions)

    axis = CHANNELS_LAST if last else CHANNELS_SECOND
    cost = Cost(prod(constant_shape) if isinstance(constant, fx.Node) else 0, prod(shape[1:]))
    return Apply(x, Reading(identity_geometry(channels, dimensions), build, axis), cost)


@dataclass(frozen=True)
class Call:
    """Parameter names of a call in order, the defaults of those that may be left out, and its reader."""

    parameters: str
    reader: Reader
    defaults: Arguments

    def bind(self, node: fx.Node) -> Arguments:
        names = self.parameters.split()
        if len(node.args) > len(names) or not set(node.kwargs) <= {*names, "inplace", "memory_format"}:
            raise Unfoldable("it is called with arguments that the fold does not know")
        bound = self.defaults | dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        if names[0] not in bound or any(isinstance(v, fx.Node) for v in (bound.get(k) for k in _STATIC)):
            raise Unfoldable("its geometry is computed while the network runs")
        return bound


_STATIC = ("stride", "padding", "dilation", "groups", "kernel_size", "pad", "output_padding", "factor", "dim", "alpha")


def _call(parameters: str, reader: Reader, **defaults: Any) -> Call:
    return Call(parameters, reader, defaults)


_BINARY = {
    "add": _call("input other alpha", read_add),
    "sub": _call("input other alpha", read_sub),
    "rsub": _call("input other alpha", read_rsub),
    "mul": _call("input other", read_mul),
    "div": _call("input other", read_div),
}

_CONV = _call(
    "input weight bias stride padding dilation groups", read_conv, bias=None, stride=1, padding=0, dilation=1, groups=1
)
_TRANSPOSED = _call(
    "input weight bias stride padding output_padding groups dilation", read_transposed,
    bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1,
)  # fmt: skip
_POOL = _call(
    "input kernel_size stride padding ceil_mode count_include_pad divisor_override", read_average_pool,
    stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None,
)  # fmt: skip
_DROPOUT = _call("input p training inplace", read_dropout, p=0.5, training=True)
_IDENTITY = _call("input", read_identity)
_CAT = _call("tensors dim", read_cat, dim=0)
_MATMUL = _call("input other", read_matmul)

# Functions and operators by the name they are defined under; methods of tensors by theirs.
CALLS: dict[str, Call] = {
    **_BINARY,
    **{f"{name}_": call for name, call in _BINARY.items() if name != "rsub"},
    "iadd": _BINARY["add"],
    "isub": _BINARY["sub"],
    "imul": _BINARY["mul"],
    "itruediv": _BINARY["div"],
    "truediv": _BINARY["div"],
    "subtract": _BINARY["sub"],
    "multiply": _BINARY["mul"],
    "divide": _BINARY["div"],
    "true_divide": _BINARY["div"],
    "neg": _call("input", read_neg),
    "negative": _call("input", read_neg),
    "conv1d": _CONV,
    "conv2d": _CONV,
    "conv3d": _CONV,
    "conv_transpose1d": _TRANSPOSED,
    "conv_transpose2d": _TRANSPOSED,
    "conv_transpose3d": _TRANSPOSED,
    "linear": _call("input weight bias", read_linear, bias=None),
    "matmul": _MATMUL,
    "batch_norm": _call(
        "input running_mean running_var weight bias training momentum eps", read_batch_norm,
        weight=None, bias=None, training=False, momentum=0.1, eps=1e-5,
    ),
    "avg_pool1d": _POOL,
    "avg_pool2d": _POOL,
    "avg_pool3d": _POOL,
    "dropout": _DROPOUT,
    "dropout1d": _DROPOUT,
    "dropout2d": _DROPOUT,
    "dropout3d": _DROPOUT,
    "feature_dropout": _DROPOUT,
    "contiguous": _IDENTITY,
    "clone": _IDENTITY,
    "pad": _call("input pad mode value", read_pad, mode="constant", value=None),
    "pixel_shuffle": _call("input factor", read_pixel_shuffle),
    "pixel_unshuffle": _call("input factor", read_pixel_unshuffle),
    "cat": _CAT,
    "concat": _CAT,
    "concatenate": _CAT,
}  # fmt: skip


def _functions() -> dict[Any, Call]:
    """The very objects that the names in CALLS stand for, so that a user's own function of such a name is not taken."""
    functional = torch.nn.functional
    found: dict[Any, Call] = {}
    for name, call in CALLS.items():
        for room in (operator, functional if hasattr(functional, name) else torch):
            if hasattr(room, name):
                found[getattr(room, name)] = call
    return found


FUNCTIONS = _functions()
