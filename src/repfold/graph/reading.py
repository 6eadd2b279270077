"""A graph from the JSON values that ``graph.file`` writes, checked whole: a file may come from anywhere.

A graph that passes is made of known functions without side effects, called with arguments of the right kinds, each
value after its operands, and every size in it can be computed in bounded time.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Mapping
from typing import Any

import torch

from repfold.errors import RepFoldError
from repfold.graph import sizes
from repfold.graph.file import BUFFER, FROZEN, NAME, PARAMETER, PATH, Written
from repfold.graph.graph import INPUT, STATE, Check, Graph, Value
from repfold.graph.kinds import Misused, check
from repfold.graph.operators import PREFIX
from repfold.graph.sizes import Expression
from repfold.limits import LARGEST_TENSOR

MOST_VALUES = 200_000
DEEPEST, LONGEST = 50, 10_000  # the nesting and the parts of one size
DTYPES = "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128".split()
FORMATS = "contiguous_format channels_last channels_last_3d preserve_format".split()


def from_json(content: object, shapes: Mapping[str, tuple[int, ...]]) -> Written:
    """What ``to_json`` wrote; ``shapes`` are those of the tensors that the file holds.

    Raises: RepFoldError for anything that ``to_json`` would not have written.
    """
    try:
        return _read(content, shapes)
    except RepFoldError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, RecursionError) as error:
        raise RepFoldError(f"The graph is malformed: {type(error).__name__}: {error!s:.200}.") from error


def _read(content: Any, shapes: Mapping[str, tuple[int, ...]]) -> Written:
    if len(content["values"]) > MOST_VALUES:
        raise RepFoldError(f"The graph has more than {MOST_VALUES} values.")
    known: dict[str, Value] = {}
    for item in content["values"]:
        value = _read_value(item, known, shapes)
        if value.name in known:
            raise RepFoldError(f"The graph has two values named '{value.name}'.")
        known[value.name] = value
    inputs = tuple(known[name] for name in content["inputs"])
    if [(v.op, v["index"]) for v in inputs] != [(INPUT, i) for i in range(len(inputs))]:
        raise RepFoldError("The graph's inputs are not its input values in order.")
    if len(inputs) != sum(value.op == INPUT for value in known.values()):
        raise RepFoldError("The graph has an input that it does not list.")
    graph = Graph(
        inputs=inputs,
        values=tuple(known.values()),
        outputs=tuple(known[name] for name in content["outputs"]),
        updates={path: known[name] for path, name in content["updates"].items()},
        checks=tuple(Check(_read_condition(c["condition"]), f"{c['reason']:.200}") for c in content["checks"]),
        sizes={(_count(i), _count(axis)): _count(samples) for i, axis, samples in content["sizes"]},
    )
    _check_sizes(graph)
    _check_extents(graph)
    arguments = tuple(_read_structure(item, known) for item in content["arguments"])
    output = _read_structure(content["output"], known)
    if _leaves(arguments) != list(graph.inputs) or _leaves(output) != list(graph.outputs):
        raise RepFoldError("The graph's arguments or output do not hold its inputs and outputs.")
    parameter_names = tuple(_name(name) for name in content["parameter_names"])
    return Written(graph, arguments, output, parameter_names, _read_state(content["state"], graph))


def _read_value(item: Any, known: Mapping[str, Value], shapes: Mapping[str, tuple[int, ...]]) -> Value:
    op, name = item["op"], _name(item["name"])
    shape = tuple(_read_size(size) for size in item["shape"])
    if op == INPUT:
        arguments: dict[str, Any] = {"index": _count(item["arguments"]["index"])}
    elif op == STATE:
        path = item["arguments"]["path"]
        if shapes.get(_path(path)) != shape:
            raise RepFoldError(f"The graph uses a tensor '{path}' of shape {list(shape)}, which is not in the file.")
        arguments = {"path": path}
    else:
        arguments = {_name(key): _decode(argument, known) for key, argument in item["arguments"].items()}
        try:
            check(op, arguments)
        except Misused as error:
            raise RepFoldError(f"The graph's value '{name}' cannot be computed: {error}.") from error
    scope = item.get("scope", "")
    return Value(
        op,
        arguments,
        shape,
        _torch(item["dtype"], DTYPES),
        name,
        _path(scope) if scope else "",
        item.get("grad", True) is True,
    )


def _decode(argument: object, known: Mapping[str, Value], depth: int = 0) -> Any:
    if argument is None or isinstance(argument, (bool, str, float)):
        return argument
    if isinstance(argument, int) and abs(argument) < 2**63:
        return argument
    if isinstance(argument, list) and depth < 4:
        return tuple(_decode(item, known, depth + 1) for item in argument)
    if isinstance(argument, dict) and len(argument) == 1:
        ((kind, content),) = argument.items()
        if kind == "value" and content in known:
            return known[content]
        if kind == "value":
            raise RepFoldError(f"The graph uses '{content!s:.60}' before it is computed.")
        if kind == "size":
            return _read_size(content)
        if kind == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if kind in _TORCH_NAMES:
            return _torch(content, _TORCH_NAMES[kind])
    raise RepFoldError(f"The graph has a malformed argument: {argument!r:.100}.")


_TORCH_NAMES = {"dtype": DTYPES, "layout": ("strided",), "memory_format": FORMATS}


def _read_structure(item: object, known: Mapping[str, Value], depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise RepFoldError("The graph's arguments or output are nested too deeply.")
    if isinstance(item, dict) and len(item) == 1:
        ((kind, content),) = item.items()
        if kind in ("tuple", "list"):
            parts = [_read_structure(part, known, depth + 1) for part in content]
            return tuple(parts) if kind == "tuple" else parts
        if kind == "dict":
            if not all(type(key) in (str, int) for key, _ in content):
                raise RepFoldError("The graph's output has keys that are neither text nor numbers.")
            return {key: _read_structure(part, known, depth + 1) for key, part in content}
    if isinstance(item, list):
        raise RepFoldError(f"The graph has a malformed argument: {item!r:.100}.")
    return _decode(item, known)


def _leaves(item: object) -> list[Value]:
    if isinstance(item, Value):
        return [item]
    parts = item.values() if isinstance(item, dict) else item if isinstance(item, (tuple, list)) else ()
    return [leaf for part in parts for leaf in _leaves(part)]


def _read_state(content: Any, graph: Graph) -> dict[str, str]:
    paths = {value["path"] for value in graph.state} | graph.updates.keys()
    if content.keys() != paths or not all(kind in (PARAMETER, FROZEN, BUFFER) for kind in content.values()):
        raise RepFoldError("The graph does not say of each of its tensors whether it is a parameter or a buffer.")
    return dict(content)


def _read_size(content: object) -> Any:
    if isinstance(content, int) and not isinstance(content, bool) and abs(content) < 2**53:
        return content
    _check_bounds(content)
    return sizes.from_json(content)


def _read_condition(content: object) -> Expression:
    condition = _read_size(content)
    if not isinstance(condition, Expression):
        raise RepFoldError("The graph has a condition that depends on no size.")
    return condition


def _check_bounds(content: object) -> None:
    """Raise unless an expression is cheap to compute: bounded depth, length and numbers, powers of small exponent."""
    parts, waiting = 0, [(content, 0, False)]
    while waiting:
        part, depth, raised = waiting.pop()
        parts += 1
        if depth > DEEPEST or parts > LONGEST:
            raise RepFoldError("The graph computes a size by an expression that is too large.")
        if isinstance(part, list):
            power = part[:1] == ["**"]
            if power and (raised or len(part) != 3 or not isinstance(part[2], (int, float)) or abs(part[2]) > 8):
                raise RepFoldError("The graph computes a size by a power that is too large.")
            waiting += [(operand, depth + 1, raised or power) for operand in part[1:]]
        elif isinstance(part, (int, float)) and not abs(part) < 2**53:
            raise RepFoldError("The graph computes a size with a number that is too large.")


def _check_sizes(graph: Graph) -> None:
    """Raise unless the sizes of the example are complete and no expression uses any other."""
    expected = {(i, axis) for i, value in enumerate(graph.inputs) for axis in range(len(value.shape))}
    if graph.sizes.keys() != expected:
        raise RepFoldError("The graph does not say the sizes of its inputs.")
    found: list[Any] = [c.condition for c in graph.checks]
    for value in graph.values:
        found += [*value.shape, *_expressions(tuple(value.arguments.values()))]
    if any(leaf not in expected for size in found for leaf in sizes.leaves(size)):
        raise RepFoldError("The graph uses the size of an input that it has not.")


def _check_extents(graph: Graph) -> None:
    """Raise where a tensor of the graph, or an argument that creates one, exceeds what memory holds."""
    for value in graph.values:
        extents = [graph.numeric(value.shape)]
        for name, argument in value.arguments.items():
            if isinstance(argument, tuple) and all(_is_count(item) for item in argument):
                extents.append(graph.numeric(argument))
            elif value.op.startswith(PREFIX) and "slice" not in value.op and _is_count(argument) and name != "dim":
                extents.append(graph.numeric((argument,)))
        for extent in extents:
            if math.prod(abs(size) or 1 for size in extent) > LARGEST_TENSOR:
                raise RepFoldError(f"The graph's value '{value.name}' is of {list(extent)!s:.60}, which is too large.")


def _is_count(argument: object) -> bool:
    return type(argument) is int or isinstance(argument, Expression)


def _expressions(argument: object) -> list[Expression]:
    if isinstance(argument, tuple):
        return [found for item in argument for found in _expressions(item)]
    return [argument] if isinstance(argument, Expression) else []


def _torch(name: Any, known: Any) -> Any:
    if name not in known:
        raise RepFoldError(f"The graph uses {name!r:.40}; known: {', '.join(known)}.")
    return getattr(torch, name)


def _name(name: str) -> str:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise RepFoldError(f"The graph uses {name!r:.60} where a plain name belongs.")
    return name


def _path(path: str) -> str:
    if not PATH.fullmatch(path) or any(part.startswith("__") for part in path.split(".")):
        raise RepFoldError(f"The graph uses {path!r:.60} as the name of a layer or tensor.")
    return path


def _count(number: object) -> int:
    if type(number) is not int or not 0 <= number < 2**53:
        raise RepFoldError(f"The graph uses {number!r:.40} where a count belongs.")
    return number
