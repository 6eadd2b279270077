"""What a network takes and returns: a graph's Values, and Expressions of sizes, in containers."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import fx

from repfold.graph.graph import Value
from repfold.graph.sizes import Expression
from repfold.graph.structure import PLAIN, UnknownContainer


def _make(kind: Callable[..., Any], *arguments: object, **keywords: Any) -> Any:
    return kind(*arguments, **keywords)


def rebuilt(packed: object, change: Callable[[Any], Any], make: Callable[..., Any] = _make) -> Any:
    """``packed`` with every Value, Expression and plain value changed, in containers of the same kinds.

    ``make`` is called with the class and the contents of a container that is no plain tuple, list or dict.
    Raises: UnknownContainer.
    """
    if isinstance(packed, (Value, Expression, *PLAIN)):
        return change(packed)
    if isinstance(packed, tuple):
        items = tuple(rebuilt(item, change, make) for item in packed)
        return make(type(packed), *items) if hasattr(packed, "_fields") else items
    if isinstance(packed, list):
        return [rebuilt(item, change, make) for item in packed]
    if dataclasses.is_dataclass(packed) and not isinstance(packed, type):
        return make(type(packed), **{name: rebuilt(item, change, make) for name, item in _fields(packed).items()})
    if isinstance(packed, Mapping):
        entries = {key: rebuilt(item, change, make) for key, item in packed.items()}
        return entries if type(packed) is dict else make(type(packed), entries)
    raise UnknownContainer(f"an object of type {type(packed).__qualname__}, which cannot be taken apart")


def items_read(target: fx.Graph, node: fx.Node, packed: Any, name: str) -> Iterator[tuple[Any, fx.Node, str]]:
    """Each item and container in ``packed``, with the node that reads it from the argument ``node``, and its name."""
    yield packed, node, name
    if isinstance(packed, (Value, Expression, *PLAIN)):
        return
    if dataclasses.is_dataclass(packed):
        for field, item in _fields(packed).items():
            yield from items_read(target, target.call_function(getattr, (node, field)), item, f"{name}.{field}")
        return
    for key, item in packed.items() if isinstance(packed, Mapping) else enumerate(packed):
        yield from items_read(target, target.call_function(operator.getitem, (node, key)), item, f"{name}[{key!r}]")


def _fields(container: Any) -> dict[str, Any]:
    return {field.name: getattr(container, field.name) for field in dataclasses.fields(container) if field.init}
