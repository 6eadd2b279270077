"""Renaming a graph's paths so that a torch.fx module can hold them: none may hide an attribute of the module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn

from repfold.graph.graph import Graph, Value, map_argument
from repfold.graph.layers import State
from repfold.graph.operators import OPERATORS

_ROOT = fx.GraphModule(nn.Module(), fx.Graph())
_INNER = nn.Module()
_OURS = ("repfold_graph", "repfold_arguments", "repfold_output", "repfold_parameter_names")


def free_names(paths: Iterable[str], tensors: Iterable[str]) -> dict[str, str]:
    """The new name of each path that has to change.

    A part that names an attribute of the module that owns it, and a tensor at the path of a module, get a "_".
    """
    inside: dict[str, set[str]] = {}  # the names right below each path
    whole = set(paths)
    for path in whole:
        parts = path.split(".")
        for depth, part in enumerate(parts):
            inside.setdefault(".".join(parts[:depth]), set()).add(part)
    ends = set(tensors)

    def part_at(outer: str, part: str) -> str:
        path = f"{outer}.{part}" if outer else part
        taken = (path in ends and path in inside) or hasattr(_INNER if outer else _ROOT, part)
        while taken or (not outer and part in _OURS):
            part += "_"
            taken = part in inside[outer] or hasattr(_INNER if outer else _ROOT, part)
        return part

    def renamed(path: str) -> str:
        parts = path.split(".")
        return ".".join(part_at(".".join(parts[:depth]), part) for depth, part in enumerate(parts))

    return {path: new for path in whole if path and (new := renamed(path)) != path}


@dataclass(frozen=True)
class Settled:
    """``renew`` gives the new Value of an old one; ``original``: new path -> the one before, where they differ."""

    graph: Graph
    state: State
    renew: Callable[[Any], Any] = lambda leaf: leaf
    original: Mapping[str, str] = field(default_factory=dict)


def settled(graph: Graph, state: State) -> Settled:
    """The graph with valid names, every argument explicit even where it is the default."""
    tensors = [value["path"] for value in graph.state] + list(graph.updates)
    modules = [value["path"] for value in graph.values if value.op == "train_only"]
    new = free_names([*tensors, *state, *modules, *(value.scope for value in graph.values)], [*tensors, *state])
    defaults = {op: OPERATORS[op].defaults for op in {value.op for value in graph.values} & OPERATORS.keys()}
    if not new and all(defaults.get(value.op, {}).keys() <= value.arguments.keys() for value in graph.values):
        return Settled(graph, state)
    twins: dict[Value, Value] = {}
    for value in graph.values:
        arguments = {name: map_argument(argument, twins.__getitem__) for name, argument in value.arguments.items()}
        arguments = {**defaults.get(value.op, {}), **arguments}
        if "path" in arguments:
            arguments["path"] = new.get(arguments["path"], arguments["path"])
        twins[value] = replace(value, arguments=arguments, scope=new.get(value.scope, value.scope))
    renewed = replace(
        graph,
        inputs=tuple(map(twins.__getitem__, graph.inputs)),
        values=tuple(twins.values()),
        outputs=tuple(map(twins.__getitem__, graph.outputs)),
        updates={new.get(path, path): twins[value] for path, value in graph.updates.items()},
    )
    return Settled(
        graph=renewed,
        state={new.get(path, path): tensor for path, tensor in state.items()},
        renew=lambda leaf: twins.get(leaf, leaf) if isinstance(leaf, Value) else leaf,
        original={now: before for before, now in new.items()},
    )


def parameter_names(network: nn.Module, count: int) -> tuple[str, ...]:
    """The names of the forward's first ``count`` parameters; those that a ``*`` takes are numbered."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        named = [p.name for p in inspect.signature(network.forward).parameters.values() if p.kind in kinds]
    except (TypeError, ValueError):
        named = []
    return tuple(named[i] if i < len(named) else f"x{i}" for i in range(count))
