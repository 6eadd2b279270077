"""PyTorch's own functions of the operators that are one call each, and of the operations of sizes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from repfold.graph.onnx.kept import onnx_node
from repfold.graph.sizes import COMPARISONS, INFIX


@dataclass(frozen=True)
class Function:
    """A function of PyTorch's.

    Args:
        arguments: ours, in its order.
        keywords: those that it takes by keyword: its name -> ours.
        inplace: whether it can write to its first argument; with the name of a number, where that is not negative.
    """

    target: Callable[..., Any]
    arguments: tuple[str, ...]
    keywords: Mapping[str, str]
    inplace: bool | str


def _function(target: Callable[..., Any], arguments: str, *, inplace: bool | str = False, **keywords: str) -> Function:
    return Function(target, tuple(arguments.split()), keywords, inplace)


_STATISTICS = "x running_mean running_var weight bias"

FUNCTIONS: dict[str, Function] = {
    "linear": _function(F.linear, "x weight bias"),
    "matmul": _function(torch.matmul, "x other"),
    "batch_norm": _function(F.batch_norm, f"{_STATISTICS} training momentum eps"),
    "onnx_node": _function(onnx_node, "inputs node opset version"),
    "sub": _function(operator.sub, "x other"),
    "mul": _function(operator.mul, "x other"),
    "div": _function(operator.truediv, "x other"),
    "neg": _function(operator.neg, "x"),
    "maximum": _function(torch.maximum, "x other"),
    "minimum": _function(torch.minimum, "x other"),
    "pow": _function(torch.pow, "x exponent"),
    "select": _function(torch.select, "x dim index"),
    "flip": _function(torch.flip, "x dims"),
    "cat": _function(torch.cat, "xs dim"),
    "pixel_shuffle": _function(F.pixel_shuffle, "x factor"),
    "pixel_unshuffle": _function(F.pixel_unshuffle, "x factor"),
    "channel_shuffle": _function(F.channel_shuffle, "x groups"),
    "item": _function(operator.getitem, "x index"),
    "relu": _function(F.relu, "x", inplace=True),
    "leaky_relu": _function(F.leaky_relu, "x slope", inplace="slope"),
    "elu": _function(F.elu, "x alpha", inplace="alpha"),
    "prelu": _function(F.prelu, "x weight"),
    "sigmoid": _function(torch.sigmoid, "x"),
    "tanh": _function(torch.tanh, "x"),
    "silu": _function(F.silu, "x", inplace=True),
    "gelu": _function(F.gelu, "x", approximate="approximate"),
    "hardswish": _function(F.hardswish, "x", inplace=True),
    "hardsigmoid": _function(F.hardsigmoid, "x", inplace=True),
    "softplus": _function(F.softplus, "x beta threshold"),
    "mish": _function(F.mish, "x", inplace=True),
    "exp": _function(torch.exp, "x"),
    "sqrt": _function(torch.sqrt, "x"),
    "rsqrt": _function(torch.rsqrt, "x"),
    "softmax": _function(torch.softmax, "x dim"),
    "log_softmax": _function(torch.log_softmax, "x dim"),
    "layer_norm": _function(F.layer_norm, "x shape weight bias eps"),
    "group_norm": _function(F.group_norm, "x groups weight bias eps"),
    "instance_norm": _function(F.instance_norm, f"{_STATISTICS} use_input_stats momentum eps"),
    "mean": _function(torch.mean, "x dims keepdim"),
    "sum": _function(torch.sum, "x dims keepdim"),
    "scaled_dot_product_attention": _function(
        F.scaled_dot_product_attention, "query key value mask", is_causal="is_causal", scale="scale"
    ),
}

# Sizes: what computes an expression's operation, two operands at a time.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    **INFIX,
    "max": torch.sym_max,
    "min": torch.sym_min,
    "float": torch.sym_float,
    "int": torch.sym_int,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": torch.sym_sqrt,
    **COMPARISONS,
    "and": operator.and_,
    "or": operator.or_,
    "not": operator.not_,
}
