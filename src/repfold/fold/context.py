"""What the readers of calls may look at: the trace, and which values are constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from repfold.fold.constants import Constants, arithmetic_dtype
from repfold.fold.pieces import Piece, Unfoldable
from repfold.fold.trace import Traced

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What a reader may look at: the trace, and which nodes are constants."""

    traced: Traced
    constants: Constants

    def shape(self, node: Any) -> tuple[int, ...]:
        shape = self.traced.shape(node) if isinstance(node, fx.Node) else None
        if shape is None:
            raise Unfoldable("its operand is no tensor")
        return shape

    def is_constant(self, value: Any) -> bool:
        return isinstance(value, (int, float)) or (isinstance(value, fx.Node) and value in self.constants.nodes)

    def tensor(self, value: Any) -> Tensor:
        """The float64 value of a constant node or number."""
        return torch.as_tensor(
            self.constants.value(value) if isinstance(value, fx.Node) else value, dtype=arithmetic_dtype()
        )

    def optional(self, value: Any) -> Tensor | None:
        return None if value is None else self.tensor(value)

    def constant_shape(self, value: Any) -> tuple[int, ...]:
        """Raises: Unfoldable when ``value`` depends on the input."""
        if not self.is_constant(value):
            raise Unfoldable("its weight depends on the input")
        return self.shape(value) if isinstance(value, fx.Node) else ()

    def is_derived(self, *values: Any) -> bool:
        return any(isinstance(value, fx.Node) and value.op != "get_attr" for value in values)


Reader = Callable[[Context, fx.Node, Arguments], Piece]
