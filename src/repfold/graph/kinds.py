"""The kind of each argument of each operator, to check that a graph from elsewhere makes only valid calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

from repfold.graph.graph import Value
from repfold.graph.operators import DROPOUTS, OPERATORS, PREFIX, RESIZES, aten, operator
from repfold.graph.sizes import Expression

Kind = Callable[[Any], bool]


class Misused(ValueError):
    """An unknown operator, or wrong arguments for a known one."""


def _value(argument: object) -> bool:
    return isinstance(argument, Value)


def _whole(argument: object) -> bool:
    return type(argument) is int or isinstance(argument, Expression)


def _axis(argument: object) -> bool:
    return type(argument) is int and -64 <= argument < 64


def _number(argument: object) -> bool:
    return type(argument) in (int, float) or isinstance(argument, Expression)


def _flag(argument: object) -> bool:
    return type(argument) is bool


def _text(argument: object) -> bool:
    return isinstance(argument, str)


def _optional(kind: Kind) -> Kind:
    return lambda argument: argument is None or kind(argument)


def _tuple_of(kind: Kind) -> Kind:
    return lambda argument: isinstance(argument, tuple) and all(map(kind, argument))


def _one_of(*known: str) -> Kind:
    return lambda argument: argument in known


# By the argument's name, which means the same with (nearly) every operator.
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("x", "query", "key"), _value),
    "xs": _tuple_of(_value),
    **dict.fromkeys(("weight", "bias", "running_mean", "running_var", "mask"), _optional(_value)),
    **dict.fromkeys(("other", "exponent"), lambda argument: _value(argument) or _number(argument)),
    **dict.fromkeys(("stride", "padding", "dilation", "output_padding", "kernel", "pads"), _tuple_of(_whole)),
    **dict.fromkeys(("size", "shape"), _tuple_of(_whole)),
    **dict.fromkeys(("groups", "index", "factor", "start", "step"), _whole),
    "dim": _axis,
    "dims": _tuple_of(_axis),
    **dict.fromkeys(("end", "divisor"), _optional(_whole)),
    **dict.fromkeys(
        ("transposed", "training", "ceil_mode", "count_include_pad", "keepdim", "align_corners", "is_causal"), _flag
    ),
    "use_input_stats": _flag,
    **dict.fromkeys(("eps", "slope", "alpha", "beta", "threshold", "p"), _number),
    **dict.fromkeys(("low", "high", "momentum"), _optional(_number)),
    "dtype": lambda argument: isinstance(argument, torch.dtype),
    "approximate": _one_of("none", "tanh"),
    "kind": _one_of(*DROPOUTS),
}

# Names that mean something else with one operator.
_OWN_KINDS: dict[tuple[str, str], Kind] = {
    ("pad", "mode"): _one_of("constant", "reflect", "replicate", "circular"),
    ("pad", "value"): _number,
    ("resize", "mode"): _one_of(*(mode for mode, _ in RESIZES)),
    ("resize", "scale"): _optional(_tuple_of(_optional(_number))),
    ("aten.div.Tensor_mode", "other"): lambda argument: _value(argument) or _number(argument),
    ("scaled_dot_product_attention", "value"): _value,
    ("scaled_dot_product_attention", "scale"): _optional(_number),
}

# The same for PyTorch's own operators, by the types of its schemas.
_SCHEMA_KINDS: dict[str, Kind] = {
    "Tensor": _value,
    "int": _whole,
    "SymInt": _whole,
    "float": _number,
    "number": lambda argument: _number(argument) or _flag(argument),
    "bool": _flag,
    "str": _text,
    "ScalarType": lambda argument: isinstance(argument, torch.dtype),
    "Layout": lambda argument: isinstance(argument, torch.layout),
    "MemoryFormat": lambda argument: isinstance(argument, torch.memory_format),
    "Device": lambda argument: argument is None,
}


# Functions of PyTorch's that networks use besides those it calls core.
_MORE = frozenset(
    """
    adaptive_max_pool2d.default adaptive_max_pool3d.default arange.default arange.start argsort.default
    baddbmm.default bucketize.Tensor diagonal.default dot.default eye.default eye.m fill.Scalar fill.Tensor
    glu.default im2col.default index_add.default linalg_vector_norm.default linspace.default
    log_sigmoid_forward.default logsumexp.default mv.default new_full.default new_ones.default new_zeros.default
    one_hot.default ones.default ones_like.default roll.default stack.default std.correction std_mean.correction
    sum.default tril.default triu.default unbind.int unfold.default var_mean.correction zeros.default
    zeros_like.default _weight_norm_interface.default
    """.split()
)

# Core, but not a function of their arguments' values.
_NOT_FUNCTIONS = ("empty", "empty_strided", "as_strided")


def check(op: str, arguments: Mapping[str, object]) -> None:
    """Raises: Misused unless ``op`` is a function without side effects and takes exactly these arguments."""
    required, kinds = signature(op)
    if lost := required - arguments.keys():
        raise Misused(f"'{op}' lacks its {', '.join(sorted(lost))}")
    for name, argument in arguments.items():
        if name not in kinds:
            raise Misused(f"'{op}' takes no argument {name!r:.40}")
        if not kinds[name](argument):
            raise Misused(f"'{op}' does not take {argument!r:.60} as its {name}")


@cache
def signature(op: str) -> tuple[frozenset[str], dict[str, Kind]]:
    """The arguments that ``op`` must be given, and the kind of each that it takes. Raises: Misused."""
    if op in OPERATORS:
        names = operator(op).parameters
        return frozenset(names), {name: _OWN_KINDS.get((op, name)) or _KINDS[name] for name in names}
    schema = _overload(op)._schema
    kinds = {
        argument.name: _OWN_KINDS.get((op, argument.name)) or _schema_kind(str(argument.real_type))
        for argument in schema.arguments
    }
    return frozenset(a.name for a in schema.arguments if not a.has_default_value()), kinds


def _schema_kind(kind: str) -> Kind:
    if kind.startswith("Optional["):
        return _optional(_schema_kind(kind[len("Optional[") : -1]))
    if kind.startswith("List["):
        return _tuple_of(_schema_kind(kind[len("List[") : -1]))
    return _SCHEMA_KINDS.get(kind, lambda argument: False)


def _overload(op: str) -> Any:
    """PyTorch's operator of this name. Raises: Misused unless it is a deterministic core one without side effects."""
    parts = op.split(".")
    try:
        found = aten(op) if op.startswith(PREFIX) and len(parts) == 3 and "__" not in op else None
    except KeyError:
        found = None
    if not isinstance(found, torch._ops.OpOverload):
        raise Misused(f"'{op:.60}' is no operator that this RepFold and PyTorch know")
    known = bool({torch.Tag.core, torch.Tag.pointwise}.intersection(found.tags)) or op.removeprefix(PREFIX) in _MORE
    changes = found._schema.is_mutable or torch.Tag.nondeterministic_seeded in found.tags or parts[1] in _NOT_FUNCTIONS
    if not known or changes:
        raise Misused(f"'{op}' is not one of PyTorch's core of deterministic functions")
    return found
