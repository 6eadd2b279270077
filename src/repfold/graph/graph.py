"""The graph: what a network computes, as immutable values, computed by operators from other values.

A ``Value`` names its operator and binds every argument by its name. Aliases, in-place writes, casts, attribute looks
and decisions on sizes were resolved at the door that the graph came in by; behind it nobody knows which one that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch

from repfold.graph.sizes import Expression, InputSizes, Size, evaluate, with_leaves

# What an argument may be: a Value, a number or an Expression of sizes, a bool, a str, None, a torch.dtype, or a tuple.
Argument = Any

INPUT = "input"
STATE = "state"  # a parameter, a buffer or a constant: a tensor that belongs to the graph


@dataclass(frozen=True, eq=False)
class Value:
    """One tensor (for the few operators with several outputs, a tuple of them, which "item" picks from).

    Args:
        op: a name of ``operators.OPERATORS``, "input", "state", or "aten.<name>.<overload>" for what has no name there.
        arguments: by name; "input" has ``index``, "state" has ``path``.
        shape: sizes of the axes, as expressions of the inputs' sizes.
        scope: the path of the module whose forward called the operator, "" the network's own.
        grad: False where it was computed under ``torch.no_grad``.
    """

    op: str
    arguments: Mapping[str, Argument]
    shape: tuple[Size, ...]
    dtype: torch.dtype
    name: str
    scope: str = ""
    grad: bool = True

    # Without this, iter() would succeed through __getitem__, and libraries would take a value for a sequence.
    __iter__: ClassVar[None] = None

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @cached_property
    def operands(self) -> tuple[Value, ...]:
        """The values that it is computed from, in the order of its arguments."""
        return tuple(values_in(self.arguments.values()))

    def __repr__(self) -> str:
        return f"{self.name}{list(self.shape)}"


def values_in(argument: object) -> Iterator[Value]:
    """Every Value inside an argument, or inside several."""
    if isinstance(argument, Value):
        yield argument
    elif not isinstance(argument, (str, Expression, dict)) and hasattr(argument, "__iter__"):
        for item in argument:
            yield from values_in(item)


def map_argument(
    argument: object, change: Callable[[Value], Any], resize: Callable[[Expression], Any] = lambda e: e
) -> Any:
    """The argument with every Value and every Expression in it changed."""
    if isinstance(argument, Value):
        return change(argument)
    if isinstance(argument, Expression):
        return resize(argument)
    if isinstance(argument, tuple):
        return tuple(map_argument(item, change, resize) for item in argument)
    return argument


@dataclass(frozen=True)
class Check:
    """A condition on the inputs' sizes without which the graph does not compute what the network does.

    ``fixes``: it fixes a size; else the forward branched on it.
    """

    condition: Expression
    reason: str
    fixes: bool = False

    def holds(self, sizes: InputSizes) -> bool:
        """Whether the condition is true for ``sizes``; not where it divides by zero."""
        try:
            return bool(evaluate(self.condition, sizes))
        except ZeroDivisionError:
            return False


@dataclass(frozen=True)
class Graph:
    """``values`` are in an order in which each comes after its operands.

    ``inputs``: the placeholders, one for each tensor among the call's arguments. ``outputs``: the tensors among the
    leaves of the network's output, whose structure the caller keeps. ``updates``: the final values of the buffers that
    the forward writes to, by path. ``sizes``: those of the example.
    """

    inputs: tuple[Value, ...]
    values: tuple[Value, ...]
    outputs: tuple[Value, ...]
    updates: Mapping[str, Value] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    sizes: InputSizes = field(default_factory=dict)

    @cached_property
    def users(self) -> Mapping[Value, tuple[Value, ...]]:
        """The values computed from each value."""
        found: dict[Value, list[Value]] = {value: [] for value in self.values}
        for value in self.values:
            for operand in dict.fromkeys(value.operands):
                found[operand].append(value)
        return {value: tuple(users) for value, users in found.items()}

    @cached_property
    def position(self) -> Mapping[Value, int]:
        """The index of each value in ``values``."""
        return {value: i for i, value in enumerate(self.values)}

    @property
    def results(self) -> tuple[Value, ...]:
        """All values that must be computed: outputs and updates."""
        return (*self.outputs, *self.updates.values())

    @property
    def state(self) -> tuple[Value, ...]:
        """The parameters and buffers among the values."""
        return tuple(value for value in self.values if value.op == STATE)

    @property
    def holds_for_example(self) -> bool:
        """Whether all checks hold for the sizes of the example."""
        return all(check.holds(self.sizes) for check in self.checks)

    def numeric(self, shape: tuple[Size, ...]) -> tuple[int, ...]:
        """``shape`` with the sizes of the example."""
        return tuple(evaluate(size, self.sizes) for size in shape)

    def pruned(self) -> Graph:
        """The graph without values that no result depends on; inputs stay."""
        needed: set[Value] = set()
        waiting = list(self.results)
        while waiting:
            value = waiting.pop()
            if value not in needed:
                needed.add(value)
                waiting += value.operands
        return replace(self, values=tuple(v for v in self.values if v in needed or v.op == INPUT))


def substitute(graph: Graph, replacements: Mapping[Value, Value], added: Mapping[Value, tuple[Value, ...]]) -> Graph:
    """The graph in which readers of a key of ``replacements`` read its value.

    ``added``: the new values to be computed instead of each key, in order, its replacement among them; they may
    read old values, which are replaced likewise. Values that nothing reads any longer are dropped.
    """
    twins: dict[Value, Value] = {}

    def renew(value: Value) -> Value:
        arguments = {name: map_argument(argument, twins.__getitem__) for name, argument in value.arguments.items()}
        same = all(twins[operand] is operand for operand in value.operands)
        return value if same else replace(value, arguments=arguments)

    values: list[Value] = []
    for value in graph.values:
        for new in added.get(value, ()):
            twins[new] = renew(new)
            values.append(twins[new])
        if value in replacements:
            twins[value] = twins[replacements[value]]
        else:
            twins[value] = renew(value)
            values.append(twins[value])
    return replace(
        graph,
        values=tuple(values),
        outputs=tuple(twins[value] for value in graph.outputs),
        updates={path: twins[value] for path, value in graph.updates.items()},
    ).pruned()


def with_sizes(graph: Graph, known: Mapping[Expression, Any]) -> Graph:
    """The graph with some sizes of its inputs known: numbers, or expressions of other sizes."""
    if not known:
        return graph
    twins: dict[Value, Value] = {}
    settle = lambda size: with_leaves(size, known)  # noqa: E731
    for value in graph.values:
        arguments = {name: map_argument(a, twins.__getitem__, settle) for name, a in value.arguments.items()}
        twins[value] = replace(value, arguments=arguments, shape=tuple(map(settle, value.shape)))
    return replace(
        graph,
        inputs=tuple(map(twins.__getitem__, graph.inputs)),
        values=tuple(twins.values()),
        outputs=tuple(map(twins.__getitem__, graph.outputs)),
        updates={path: twins[value] for path, value in graph.updates.items()},
    )
