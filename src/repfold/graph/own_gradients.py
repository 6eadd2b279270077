"""Functions with a gradient of their own (``torch.autograd.Function``): their forwards are followed as any other code.

PyTorch refuses such functions where writes are made functional. A graph does not hold their gradients, so that a
network which is being trained is not followed through one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, MethodType
from typing import Any

from torch import nn
from torch.autograd import Function

_lock = threading.Lock()
_following: dict[int, Callable[[type[Function]], None]] = {}  # by thread, what each function is announced to
_apply = Function.__dict__["apply"]


class _Unused:
    """What a forward keeps for its gradient."""

    def __init__(self, count: int) -> None:
        self.needs_input_grad = (False,) * count
        self.saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: object) -> None:
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: object) -> None: ...
    def mark_dirty(self, *tensors: object) -> None: ...
    def mark_non_differentiable(self, *tensors: object) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


@contextmanager
def followed(network: nn.Module, announce: Callable[[type[Function]], None]) -> Iterator[None]:
    """Within it, and in this thread, functions run their forwards as plain code, once ``announce`` has seen them.

    ``swish = Swish.apply``, as PyTorch's tutorials have it, is found in the network's modules and beside their classes.
    """
    own = threading.get_ident()
    kept = [(space, name, value) for space in _namespaces(network) for name, value in space.items() if _is_apply(value)]
    with _lock:
        _following[own] = announce
        Function.apply = classmethod(_follow)  # type: ignore[assignment, method-assign]
        for space, name, value in kept:
            space[name] = _following_too(value)
    try:
        yield
    finally:
        with _lock:
            for space, name, value in kept:
                space[name] = value
            del _following[own]
            if not _following:
                Function.apply = _apply  # type: ignore[method-assign]


def _namespaces(network: nn.Module) -> list[dict[str, Any]]:
    """The attributes of the network's modules, and the globals of the files that define them, but PyTorch's own."""
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    files = {kind.__module__ for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", "builtins")}
    return [vars(module) for module in network.modules()] + [
        vars(sys.modules[name]) for name in sorted(files) if name in sys.modules
    ]


def _is_apply(value: object) -> bool:
    if not isinstance(value, (MethodType, BuiltinMethodType)) or value.__name__ != "apply":
        return False
    return isinstance(value.__self__, type) and issubclass(value.__self__, Function)


def _following_too(apply: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: _run(apply.__self__, apply, args, kwargs)


def _follow(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
    return _run(cls, _apply.__get__(None, cls), args, kwargs)


def _run(function: Any, apply: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    announce = _following.get(threading.get_ident())
    if announce is None:
        return apply(*args, **kwargs)
    announce(function)
    if function.setup_context is Function.setup_context:
        return function.forward(_Unused(len(args)), *args, **kwargs)
    return function.forward(*args, **kwargs)
