"""A graph as plain JSON values; ``graph.reading`` reads them.

    {"inputs": [name, ...],
     "values": [{"name", "op", "arguments": {...}, "shape": [size, ...], "dtype", "scope", "grad"}, ...],
     "outputs": [name, ...], "updates": {path: name}, "checks": [{"condition", "reason"}, ...],
     "sizes": [[input, axis, samples], ...],
     "state": {path: "parameter" | "frozen parameter" | "buffer"},
     "arguments": [structure, ...], "output": structure, "parameter_names": [name, ...]}

A size is a number or [operation, *operands] (see ``graph.sizes``). Among arguments a value is {"value": name}, an
expression of sizes {"size": [...]}, a tuple a list; {"dtype": "float32"}, {"float": "inf"}, {"layout"} and
{"memory_format"} are what JSON lacks. Structures are made of {"tuple": [...]}, {"list": [...]},
{"dict": [[key, structure], ...]} and such arguments. "scope" and "grad" are written where they are not "" and true.
"""

from __future__ import annotations

import keyword
import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from repfold.errors import RepFoldError
from repfold.graph import sizes
from repfold.graph.graph import INPUT, STATE, Graph, Value
from repfold.graph.kinds import Misused, check
from repfold.graph.operators import OPERATORS
from repfold.graph.sizes import Expression

PARAMETER, FROZEN, BUFFER = "parameter", "frozen parameter", "buffer"
ADVICE = "Such a network can be exported as .pt2 or ONNX (`repfold export`) instead."

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PATH = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class Written:
    """The description of a network in a file, without its tensors.

    ``arguments`` and ``output``: what it takes and returns, Values instead of tensors. ``state``: whether each tensor
    of the graph is PARAMETER, FROZEN or BUFFER.
    """

    graph: Graph
    arguments: tuple[Any, ...]
    output: Any
    parameter_names: tuple[str, ...]
    state: Mapping[str, str]


def to_json(written: Written) -> dict[str, Any]:
    """The graph as JSON values. Raises: RepFoldError that names the first value, path or container without a form."""
    graph, names = written.graph, _Names()
    values: list[dict[str, Any]] = []
    for value in graph.values:
        if value.op == "train_only":  # the module that it stood for is not in the file
            names[value] = names[value["x"]]
        else:
            values.append(_value_to_json(value, names))
    inputs, outputs = [names[value] for value in graph.inputs], [names[value] for value in graph.outputs]
    given, returned = iter(inputs), iter(outputs)
    return {
        "inputs": inputs,
        "values": values,
        "outputs": outputs,
        "updates": {path: names[value] for path, value in graph.updates.items()},
        "checks": [{"condition": sizes.to_json(c.condition), "reason": c.reason} for c in graph.checks],
        "sizes": [[*axis, samples] for axis, samples in graph.sizes.items()],
        "state": dict(written.state),
        "arguments": [_structure_to_json(item, given) for item in written.arguments],
        "output": _structure_to_json(written.output, returned),
        "parameter_names": list(written.parameter_names),
    }


class _Names(dict[Value, str]):
    """Plain and unique names for values."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = set()

    def give(self, value: Value) -> str:
        base = re.sub(r"[^A-Za-z0-9_]", "_", value.name)
        base = name = f"_{base}" if not NAME.fullmatch(base) or keyword.iskeyword(base) else base
        count = 0
        while name in self.taken:
            name, count = f"{base}_{count}", count + 1
        self.taken.add(name)
        self[value] = name
        return name


def _value_to_json(value: Value, names: _Names) -> dict[str, Any]:
    arguments = dict(value.arguments)
    if value.op in OPERATORS:
        arguments = OPERATORS[value.op].defaults | arguments
    if value.op not in (INPUT, STATE):
        try:
            encoded = {name: _encode(argument, names) for name, argument in arguments.items()}
            check(value.op, {name: None if isinstance(a, torch.device) else a for name, a in arguments.items()})
        except (Misused, TypeError) as error:
            where = f" (in '{value.scope}')" if value.scope else ""
            raise RepFoldError(f"A model file cannot hold '{value.name}'{where}: {error}. {ADVICE}") from error
    else:
        encoded = arguments
    written: dict[str, Any] = {
        "name": names.give(value),
        "op": value.op,
        "arguments": encoded,
        "shape": [sizes.to_json(size) for size in value.shape],
        "dtype": str(value.dtype).removeprefix("torch."),
    }
    if PATH.fullmatch(value.scope):
        written["scope"] = value.scope
    return written if value.grad else {**written, "grad": False}


def _encode(argument: object, names: Mapping[Value, str]) -> Any:
    """One argument. Raises: TypeError for what has no JSON form."""
    if argument is None or isinstance(argument, (bool, str)) or type(argument) is int:
        return argument
    if type(argument) is float:
        return argument if math.isfinite(argument) else {"float": str(argument)}
    if isinstance(argument, Value):
        return {"value": names[argument]}
    if isinstance(argument, Expression):
        return {"size": sizes.to_json(argument)}
    if isinstance(argument, (tuple, list)):
        return [_encode(item, names) for item in argument]
    if isinstance(argument, torch.device):
        return None  # a network is loaded on the CPU
    for kind, key in _TORCH_KINDS.items():
        if isinstance(argument, kind):
            return {key: str(argument).removeprefix("torch.")}
    raise TypeError(f"an argument of type {type(argument).__name__} cannot be stored")


_TORCH_KINDS: dict[Any, str] = {torch.dtype: "dtype", torch.layout: "layout", torch.memory_format: "memory_format"}


def _structure_to_json(item: Any, tensors: Iterator[str]) -> Any:
    """``tensors``: the names of the values that its tensor leaves are, in order."""
    if isinstance(item, Value):
        return {"value": next(tensors)}
    if type(item) in (tuple, list):
        return {type(item).__name__: [_structure_to_json(part, tensors) for part in item]}
    if type(item) in (dict, OrderedDict) and all(type(key) in (str, int) for key in item):
        return {"dict": [[key, _structure_to_json(part, tensors)] for key, part in item.items()]}
    if item is None or isinstance(item, (bool, int, float, str, Expression)):
        return _encode(item, {})
    raise RepFoldError(
        f"It takes or returns a {type(item).__module__}.{type(item).__qualname__}, whose class a file cannot hold: "
        f"return a tuple, list or dict of tensors. {ADVICE}"
    )
