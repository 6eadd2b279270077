"""The calls that the fold knows: functions, operators and tensor methods, with their parameters and readers."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from repfold.fold import read_arithmetic, read_layers
from repfold.fold.context import Arguments, Reader
from repfold.fold.pieces import Unfoldable


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
    "add": _call("input other alpha", read_arithmetic.read_add),
    "sub": _call("input other alpha", read_arithmetic.read_sub),
    "rsub": _call("input other alpha", read_arithmetic.read_rsub),
    "mul": _call("input other", read_arithmetic.read_mul),
    "div": _call("input other", read_arithmetic.read_div),
}

_CONV = _call(
    "input weight bias stride padding dilation groups", read_layers.read_conv,
    bias=None, stride=1, padding=0, dilation=1, groups=1,
)  # fmt: skip
_TRANSPOSED = _call(
    "input weight bias stride padding output_padding groups dilation", read_layers.read_transposed,
    bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1,
)  # fmt: skip
_POOL = _call(
    "input kernel_size stride padding ceil_mode count_include_pad divisor_override", read_layers.read_average_pool,
    stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None,
)  # fmt: skip
_DROPOUT = _call("input p training inplace", read_layers.read_dropout, p=0.5, training=True)
_IDENTITY = _call("input", read_layers.read_identity)
_CAT = _call("tensors dim", read_layers.read_cat, dim=0)
_MATMUL = _call("input other", read_layers.read_matmul)

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
    "neg": _call("input", read_arithmetic.read_neg),
    "negative": _call("input", read_arithmetic.read_neg),
    "conv1d": _CONV,
    "conv2d": _CONV,
    "conv3d": _CONV,
    "conv_transpose1d": _TRANSPOSED,
    "conv_transpose2d": _TRANSPOSED,
    "conv_transpose3d": _TRANSPOSED,
    "linear": _call("input weight bias", read_layers.read_linear, bias=None),
    "matmul": _MATMUL,
    "batch_norm": _call(
        "input running_mean running_var weight bias training momentum eps", read_layers.read_batch_norm,
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
    "pad": _call("input pad mode value", read_layers.read_pad, mode="constant", value=None),
    "pixel_shuffle": _call("input factor", read_layers.read_pixel_shuffle),
    "pixel_unshuffle": _call("input factor", read_layers.read_pixel_unshuffle),
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
