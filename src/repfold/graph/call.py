"""A call of one of PyTorch's operators, as its translation to the vocabulary sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from repfold.graph.graph import Value


class Recorder(Protocol):
    """What translations need of a recorder."""

    values: list[Value]

    def add(self, op: str, arguments: dict[str, Any], like: object) -> Value:
        """Append an operator; its shape and dtype are those of ``like``."""

    def shape(self, tensor: Tensor) -> tuple[Any, ...]:
        """The tensor's sizes: numbers, or Expressions of the inputs' sizes."""


@dataclass(frozen=True)
class Call:
    """One call: the operator, its arguments by the names of its schema, and its output."""

    recorder: Recorder
    func: Any
    arguments: dict[str, Any]
    output: Any

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def x(self) -> Value:
        """The argument ``self``."""
        value: Value = self.arguments["self"]
        return value

    @property
    def first(self) -> Any:
        """The output, or the first of several."""
        return self.output[0] if isinstance(self.output, (tuple, list)) else self.output

    def give(self, op: str, **arguments: Any) -> Value:
        """A new Value like the call's first output."""
        return self.recorder.add(op, arguments, self.first)

    def like(self, tensor: Tensor, op: str, **arguments: Any) -> Value:
        """A new Value of the shape and dtype of ``tensor``."""
        return self.recorder.add(op, arguments, tensor)


# Stands for the running statistics after a norm in training, whose operator itself updates them.
MOVED_STATISTICS = object()

Translation = Callable[[Call], Value | list[Any] | None]
