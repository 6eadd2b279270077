"""Values as nodes of a torch.fx graph: ordinary calls of PyTorch's well-known functions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from repfold.graph.functions import ARITHMETIC, FUNCTIONS
from repfold.graph.graph import Graph, Value, map_argument
from repfold.graph.operators import PREFIX, RESIZES, aten
from repfold.graph.sizes import Expression, Size, product

# Operators whose backward does not read their output, which owns its memory: its only reader may write to it.
FRESH = {"conv", "linear", "matmul", "batch_norm", "layer_norm", "group_norm", "add", "sub", "mul", "cat", "avg_pool"}


class Calls:
    """Writes the values of one graph, in its order, as nodes of ``target``; ``nodes`` are those written so far."""

    def __init__(
        self, graph: Graph, values: tuple[Value, ...], target: fx.Graph, inputs: Mapping[Value, fx.Node]
    ) -> None:
        self.graph = graph
        self.target = target
        self.inputs = inputs
        self.nodes: dict[Value, fx.Node] = {}
        self.last_use = {operand: i for i, value in enumerate(values) for operand in value.operands}
        self.last_use |= dict.fromkeys(graph.results, len(values))
        self.position = 0  # in ``values``, of the one that is being written
        self.axes_of_size: dict[Expression, list[tuple[Value, int]]] = {}  # the axes that are of a size
        self.computed: dict[Any, fx.Node] = {}
        for value, node in inputs.items():
            self.keep(value, node)

    def keep(self, value: Value, node: fx.Node) -> None:
        """Register ``node`` as the node of ``value``, and the axes that carry its sizes."""
        self.nodes[value] = node
        for axis, size in enumerate(value.shape):
            if isinstance(size, Expression):
                self.axes_of_size.setdefault(size, []).append((value, axis))

    def read(self, value: Value, reader: Value | None = None) -> fx.Node:
        """The node of ``value`` for ``reader`` (None: the output), detached if computed under ``torch.no_grad``."""
        node = self.nodes[value]
        if value.grad or (reader is not None and not reader.grad) or not value.dtype.is_floating_point:
            return node
        return self._once(("detach", value), lambda: self.method("detach", node))

    def function(self, target: Callable[..., Any], *arguments: Any, **keywords: Any) -> fx.Node:
        """Append a call of a function to the target graph."""
        return self.target.call_function(target, arguments, keywords)

    def method(self, name: str, *arguments: Any) -> fx.Node:
        """Append a call of a tensor's method; ``arguments`` begin with the tensor."""
        return self.target.call_method(name, arguments)

    def write(self, value: Value) -> fx.Node:
        """Append the call that computes ``value``."""
        if value.op.startswith(PREFIX):
            return self._aten(value)
        special = SPECIAL.get(value.op)
        return special(self, value) if special is not None else self._plain(value)

    def argument(self, value: Value, name: str) -> Any:
        """An argument of ``value`` with its operands and symbolic sizes replaced by nodes."""
        return map_argument(value[name], lambda operand: self.read(operand, value), lambda size: self.size(size, value))

    def size(self, size: object, reader: Value | None = None) -> Any:
        """A number, or a node of it: the size of an axis of what ``reader`` reads or of a live value, else computed."""
        if not isinstance(size, Expression):
            return size
        axes = self.axes_of_size.get(size, [])
        near = [axis for axis in axes if reader is not None and axis[0] in reader.operands]
        alive = [axis for axis in axes if axis[0] in self.inputs or self.last_use.get(axis[0], -1) >= self.position]
        for value, axis in near or alive[:1]:
            return self._once((value, axis), lambda: self.method("size", self.nodes[value], axis))  # noqa: B023
        if size.op == "size":
            index, axis = size.operands
            return self._once(size, lambda: self.method("size", self.nodes[self.graph.inputs[index]], axis))
        operands = [self.size(operand, reader) for operand in size.operands]
        call = ARITHMETIC[size.op]
        if len(operands) == 1:
            return self._once(size, lambda: self.function(call, operands[0]))
        return self._once(size, lambda: reduce(lambda a, b: self.function(call, a, b), operands))

    def may_write_to(self, operand: object, value: Value) -> bool:
        """Whether ``value`` may be computed in place on ``operand``, as nothing else reads its memory."""
        return (
            isinstance(operand, Value)
            and operand.op in FRESH
            and self.graph.users[operand] == (value,)
            and value.operands.count(operand) == 1
            and operand not in self.graph.results
            and (operand.shape, operand.dtype, operand.grad) == (value.shape, value.dtype, value.grad)
        )

    def _once(self, key: object, write: Callable[[], fx.Node]) -> fx.Node:
        if key not in self.computed:
            self.computed[key] = write()
        return self.computed[key]

    def _plain(self, value: Value) -> fx.Node:
        call = FUNCTIONS[value.op]
        arguments = [self.argument(value, name) for name in call.arguments]
        while arguments[-1] is None:
            arguments.pop()
        keywords = {keyword: self.argument(value, name) for keyword, name in call.keywords.items()}
        may_be = value[call.inplace] >= 0 if isinstance(call.inplace, str) else call.inplace
        if may_be and self.may_write_to(value["x"], value):
            keywords["inplace"] = True
        return self.function(call.target, *arguments, **keywords)

    def _aten(self, value: Value) -> fx.Node:
        """PyTorch's operator without default arguments; a newly created tensor goes to the first input's device."""
        overload = aten(value.op)
        given = {name: self.argument(value, name) for name in value.arguments}
        if "device" in given:
            here = next(iter(self.inputs.values()), None) if not value.operands else None
            given["device"] = self._once("device", lambda: self.function(getattr, here, "device")) if here else None
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        for parameter in overload._schema.arguments:
            if parameter.name not in given:
                continue
            argument = given[parameter.name]
            is_default = parameter.has_default_value() and _same(argument, parameter.default_value)
            if not parameter.kwarg_only and len(arguments) == overload._schema.arguments.index(parameter):
                if not is_default or not _only_defaults_follow(overload, parameter, given):
                    arguments.append(argument)
            elif not is_default:
                keywords[parameter.name] = argument
        return self.function(overload, *arguments, **keywords)


def _same(given: object, default: object) -> bool:
    as_tuple = tuple(default) if isinstance(default, list) else default
    return not isinstance(given, fx.Node) and type(given) is type(as_tuple) and given == as_tuple


def _only_defaults_follow(overload: Any, parameter: object, given: Mapping[str, object]) -> bool:
    following = overload._schema.arguments[overload._schema.arguments.index(parameter) + 1 :]
    return all(p.kwarg_only or p.name not in given or _same(given[p.name], p.default_value) for p in following)


def _add(calls: Calls, value: Value) -> fx.Node:
    x, other = value["x"], value["other"]
    for into, by in ((x, other), (other, x)):
        if isinstance(by, Value) and calls.may_write_to(into, value):
            return calls.method("add_", calls.read(into, value), calls.read(by, value))
    return calls.function(operator.add, calls.argument(value, "x"), calls.argument(value, "other"))


def _view(calls: Calls, value: Value) -> fx.Node:
    x, size = value["x"], value["size"]
    merged = _merged_axes(x.shape, size)
    if merged is not None:
        return calls.function(torch.flatten, calls.read(x, value), *merged)
    free = [axis for axis, n in enumerate(size) if isinstance(n, Expression)]
    if len(free) == 1 and 0 not in size:
        wanted = tuple(-1 if axis in free else n for axis, n in enumerate(size))
    else:
        wanted = calls.argument(value, "size")
    return calls.method("reshape", calls.read(x, value), wanted)


def _merged_axes(before: tuple[Size, ...], after: tuple[Size, ...]) -> tuple[int, int] | None:
    """(first, last) where ``after`` is ``before`` with these axes and all between as one."""
    count = len(before) - len(after) + 1
    for first in range(len(after)) if count > 1 else ():
        one = product(before[first : first + count])
        if (
            before[:first] + before[first + count :] == after[:first] + after[first + 1 :]
            and product((after[first],)) == one
        ):
            return first, first + count - 1
    return None


def _expand(calls: Calls, value: Value) -> fx.Node:
    x, size = value["x"], value["size"]
    new = len(size) - len(x.shape)
    kept = [-1 if i >= new and n == x.shape[i - new] else calls.size(n, value) for i, n in enumerate(size)]
    return calls.method("expand", calls.read(x, value), tuple(kept))


def _slice(calls: Calls, value: Value) -> fx.Node:
    start, end, step = (calls.argument(value, name) for name in ("start", "end", "step"))
    picked = slice(None if start == 0 else start, end, None if step == 1 else step)
    return calls.function(operator.getitem, calls.read(value["x"], value), (*(slice(None),) * value["dim"], picked))


def _convolution(calls: Calls, value: Value) -> fx.Node:
    axes = len(value["weight"].shape) - 3
    names = ["x", "weight", "bias", "stride", "padding", "dilation", "groups"]
    call: Callable[..., Any] = (F.conv1d, F.conv2d, F.conv3d)[axes]
    if value["transposed"]:
        call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes]
        names[5:] = ["output_padding", "groups", "dilation"]
    return calls.function(call, *(calls.argument(value, name) for name in names))


def _resize(calls: Calls, value: Value) -> fx.Node:
    x, size, mode, scale = calls.read(value["x"], value), value["size"], value["mode"], value["scale"]
    corners = {"align_corners": value["align_corners"]} if RESIZES[mode, len(size)][1] else {}
    antialias = {"antialias": True} if mode.startswith("antialiased") else {}
    options = {"mode": mode.removeprefix("antialiased "), **corners, **antialias}
    if scale is None:
        return calls.function(F.interpolate, x, calls.argument(value, "size"), **options)
    if all(_scales(n, factor, wanted) for n, factor, wanted in zip(value["x"].shape[2:], scale, size, strict=True)):
        return calls.function(F.interpolate, x, scale_factor=scale, **options)
    return calls.function(RESIZES[mode, len(size)][0], x, calls.argument(value, "size"), *corners.values(), *scale)


def _scales(size: Size, factor: float | None, wanted: Size) -> bool:
    return factor is not None and factor == int(factor) and product((int(factor), size)) == product((wanted,))


def _clamp(calls: Calls, value: Value) -> fx.Node:
    """Between two numbers it is hardtanh, whose gradient is zero at the bounds."""
    x, low, high = value["x"], value["low"], value["high"]
    if x.dtype.is_floating_point and isinstance(low, (int, float)) and isinstance(high, (int, float)) and low < high:
        inplace = {"inplace": True} if calls.may_write_to(x, value) else {}
        return calls.function(F.hardtanh, calls.read(x, value), float(low), float(high), **inplace)
    return calls.function(torch.clamp, *(calls.argument(value, name) for name in ("x", "low", "high")))


def _pad(calls: Calls, value: Value) -> fx.Node:
    constant = (value["value"],) if value["mode"] == "constant" else ()
    return calls.function(F.pad, *(calls.argument(value, name) for name in ("x", "pads", "mode")), *constant)


def _dropout(calls: Calls, value: Value) -> fx.Node:
    """Dropout with a fixed ``training`` argument; dropouts that follow a module's mode are modules."""
    return calls.function(getattr(F, value["kind"]), calls.read(value["x"], value), value["p"], value["training"])


def _pool(functions: tuple[Callable[..., Any], ...], names: str) -> Callable[[Calls, Value], fx.Node]:
    def write(calls: Calls, value: Value) -> fx.Node:
        axes = len(value["size"] if "kernel" not in value.arguments else value["kernel"])
        arguments = [calls.argument(value, name) for name in names.split()]
        while arguments[-1] is None:
            arguments.pop()
        return calls.function(functions[axes - 1], *arguments)

    return write


SPECIAL: dict[str, Callable[[Calls, Value], fx.Node]] = {
    "conv": _convolution,
    "add": _add,
    "view": _view,
    "expand": _expand,
    "slice": _slice,
    "clamp": _clamp,
    "pad": _pad,
    "dropout": _dropout,
    "resize": _resize,
    "avg_pool": _pool(
        (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), "x kernel stride padding ceil_mode count_include_pad divisor"
    ),
    "max_pool": _pool((F.max_pool1d, F.max_pool2d, F.max_pool3d), "x kernel stride padding dilation ceil_mode"),
    "adaptive_avg_pool": _pool((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), "x size"),
    "permute": lambda calls, value: calls.method("permute", calls.read(value["x"], value), value["dims"]),
    "to": lambda calls, value: calls.method("to", calls.read(value["x"], value), value["dtype"]),
    "detach": lambda calls, value: calls.method("detach", calls.read(value["x"], value)),
}
