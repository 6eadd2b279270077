"""Values that depend on parameters alone: their numbers in float64, or in another dtype while a network trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from repfold.fold.pieces import State
from repfold.graph.graph import INPUT, STATE, Graph, Value, map_argument
from repfold.graph.interpret import compute
from repfold.graph.operators import is_random
from repfold.graph.sizes import Expression

# Operators whose result is a part of their operand, in any order.
_PARTS = frozenset({"slice", "select", "view", "permute", "flip"})


@dataclass(frozen=True)
class Constants:
    """The values of a graph that depend on no input, size of an input or random number."""

    graph: Graph

    @cached_property
    def values(self) -> frozenset[Value]:
        """The numeric values that depend on no input and on no random operator."""
        found: set[Value] = set()
        for value in self.graph.values:
            fixed = value.op != INPUT and not is_random(value.op) and _is_numeric(value)
            if fixed and all(operand in found for operand in value.operands):
                found.add(value)
        return frozenset(found)

    def __contains__(self, value: object) -> bool:
        return value in self.values

    @cached_property
    def _exact(self) -> dict[Value, Value]:
        return {}

    def state_of(self, values: Iterable[Value]) -> tuple[Value, ...]:
        """The state that ``values`` are computed from."""
        return tuple(value for value in _cone(values) if value.op == STATE)

    def readers_of(self, tensor: Value) -> frozenset[Value]:
        """The values that depend on inputs and read ``tensor``, or something that is computed from it."""
        if tensor not in self._readers:
            found: set[Value] = set()
            for user in self.graph.users[tensor]:
                found |= self.readers_of(user) if user in self else {user}
            self._readers[tensor] = frozenset(found)
        return self._readers[tensor]

    @cached_property
    def _readers(self) -> dict[Value, frozenset[Value]]:
        return {}

    def share_nothing(self, some: Iterable[Value], others: Iterable[Value], tensor: Value, state: State) -> bool:
        """Whether no element of ``tensor`` is read by both: slices, as octave convolutions take of one weight."""
        first, second = (self._read_by(readers, tensor, state) for readers in (some, others))
        return first is not None and second is not None and not bool((first & second).any())

    def _read_by(self, readers: Iterable[Value], tensor: Value, state: State) -> Tensor | None:
        """Which elements of ``tensor`` the readers take, flat; None where one takes what is computed of it."""
        held = state[tensor["path"]]
        taken = torch.zeros(held.numel(), dtype=torch.bool)
        for operand in {operand for reader in readers for operand in reader.operands if operand in self}:
            cone = _cone((operand,))
            if tensor not in cone:
                continue
            if operand is tensor:
                return torch.ones_like(taken)
            if any(value is not tensor and value.op not in _PARTS for value in cone):
                return None
            numbered = {tensor["path"]: torch.arange(held.numel()).reshape(held.shape)}
            taken[compute((operand,), {}, numbered, {})[0].flatten()] = True
        return taken

    def trains(self, values: Iterable[Value], state: State) -> bool:
        """Whether a gradient of ``values`` reaches a tensor that requires one."""
        waiting, seen = [value for value in values if value.grad and value.op != "detach"], set()
        while waiting:
            value = waiting.pop()
            if value.op == STATE and state[value["path"]].requires_grad:
                return True
            seen.add(value)
            waiting += [v for v in value.operands if v not in seen and v.grad and v.op != "detach"]
        return False

    def number(self, value: Value, state: State, dtype: torch.dtype) -> Tensor:
        """The value in ``dtype``, computed in it unless the network's own rounding matters.

        One that was rounded to an integer or a narrower type, or compared, is computed as the network does.
        """
        if value.op == STATE:
            return state[value["path"]].to(dtype)
        cone = _cone((value,))
        if any(_decides(v) for v in cone):
            rounded: Tensor = compute((value,), {}, state, {})[0]
            return rounded.to(dtype)
        used = {v["path"]: state[v["path"]] for v in cone if v.op == STATE}
        cast = {path: tensor.to(dtype) if tensor.is_floating_point() else tensor for path, tensor in used.items()}
        exact: Tensor = compute((self._without_casts(value),), {}, cast, {})[0]
        return exact.to(dtype)

    def _without_casts(self, value: Value) -> Value:
        """The value with its casts between floating types left out."""
        if value not in self._exact:
            if value.op == "to" and value.dtype.is_floating_point and value["x"].dtype.is_floating_point:
                self._exact[value] = self._without_casts(value["x"])
            else:
                arguments = {name: map_argument(a, self._without_casts) for name, a in value.arguments.items()}
                self._exact[value] = replace(value, arguments=arguments)
        return self._exact[value]


def _decides(value: Value) -> bool:
    """Whether rounding matters: the value is of integers, bools, or a narrower type."""
    if value.op == "to" and value.dtype.is_floating_point and value["x"].dtype.is_floating_point:
        return torch.finfo(value.dtype).eps > torch.finfo(value["x"].dtype).eps
    return bool(value.operands) and not value.dtype.is_floating_point and not value.dtype.is_complex


def _is_numeric(value: Value) -> bool:
    return not any(isinstance(argument, Expression) for argument in _flat(value.arguments.values()))


def _flat(arguments: Iterable[object]) -> Iterable[object]:
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from _flat(argument)
        else:
            yield argument


def _cone(values: Iterable[Value]) -> list[Value]:
    """The values and all that they are computed from."""
    found: dict[Value, None] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if value not in found:
            found[value] = None
            waiting += value.operands
    return list(found)
