"""The context in which the readers of operators read a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from repfold.fold.constants import Constants
from repfold.fold.movement import AxisLayout
from repfold.fold.pieces import Apply, Piece, State, Sum, Unfoldable
from repfold.graph.graph import Graph, Value


@dataclass(frozen=True)
class Context:
    """What a reader may look at: the graph, which of its values are constants, and how channels were moved."""

    graph: Graph
    constants: Constants
    pieces: dict[Value, Piece]  # of earlier values
    layouts: dict[Value, AxisLayout]

    def channels_last(self, value: Value) -> bool:
        """Whether ``value`` has its channels last, judged by the operator that computed it."""
        piece = self.pieces.get(value)
        if isinstance(piece, Sum):
            return self.channels_last(piece.terms[0][0])
        return len(value.shape) == 2 or (isinstance(piece, Apply) and piece.reading.channels_last)

    def is_constant(self, argument: object) -> bool:
        """Whether ``argument`` is a number or a value that depends on no input."""
        return isinstance(argument, (int, float)) or (isinstance(argument, Value) and argument in self.constants)

    def weight(self, argument: Value) -> Value:
        """``argument`` itself. Raises: Unfoldable when it depends on the input."""
        if argument not in self.constants:
            raise Unfoldable("its weight depends on the input")
        return argument

    def number(self, argument: object, state: State, dtype: torch.dtype) -> Tensor:
        """A number or a constant value as a tensor of ``dtype``, computed from ``state``."""
        if isinstance(argument, Value):
            return self.constants.number(argument, state, dtype)
        return torch.as_tensor(argument, dtype=dtype)

    def optional(self, argument: object, state: State, dtype: torch.dtype) -> Tensor | None:
        """``number``, or None for an argument that is None."""
        return None if argument is None else self.number(argument, state, dtype)


Reader = Callable[[Context, Value], Piece]


def each_axis(given: tuple[int, ...], n: int) -> tuple[int, ...]:
    """``given`` with one entry for each of ``n`` axes; a single one holds for all."""
    return tuple(given) * n if len(given) == 1 else tuple(given)
