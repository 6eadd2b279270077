"""Running a graph, or parts of it, on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from repfold.graph.graph import INPUT, STATE, Graph, Value, map_argument
from repfold.graph.operators import run
from repfold.graph.sizes import InputSizes, evaluate

State = Mapping[str, Tensor]


def compute(wanted: tuple[Value, ...], known: Mapping[Value, Any], state: State, sizes: InputSizes) -> list[Any]:
    """The ``wanted`` values, from ``known`` ones and tensors of ``state`` (by path); nothing is computed twice.

    ``sizes`` are those of the inputs, for arguments that depend on them.
    """
    found: dict[Value, Any] = dict(known)
    waiting = list(wanted)
    while waiting:
        value = waiting[-1]
        if value in found:
            waiting.pop()
            continue
        missing = [operand for operand in value.operands if operand not in found]
        if missing:
            waiting += missing
            continue
        found[value] = _apply(value, found, state, sizes)
        waiting.pop()
    return [found[value] for value in wanted]


def execute(graph: Graph, inputs: tuple[Tensor, ...], state: State) -> list[Tensor]:
    """The graph's outputs on ``inputs``: the plain reference that every other form of a graph is checked against."""
    sizes = {(i, axis): n for i, x in enumerate(inputs) for axis, n in enumerate(x.shape)}
    return compute(graph.outputs, dict(zip(graph.inputs, inputs, strict=True)), state, sizes)


def _apply(value: Value, found: Mapping[Value, Any], state: State, sizes: InputSizes) -> Any:
    if value.op == STATE:
        return state[value["path"]]
    assert value.op != INPUT, f"{value.name} is an input without a value"
    arguments: dict[str, Any] = {
        name: map_argument(argument, found.__getitem__, lambda size: evaluate(size, sizes))
        for name, argument in value.arguments.items()
    }
    with torch.set_grad_enabled(torch.is_grad_enabled() and value.grad):
        return run(value.op, arguments)
