"""Functions with a gradient of their own (``torch.autograd.Function``): their forwards are followed as any other code.

PyTorch refuses such functions where writes are made functional. A graph does not hold their gradients, so that a
network which is being trained is not followed through one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
def followed(announce: Callable[[type[Function]], None]) -> Iterator[None]:
    """Within it, and in this thread, functions run their forwards as plain code, once ``announce`` has seen them."""
    own = threading.get_ident()
    with _lock:
        if not _following:
            Function.apply = classmethod(_follow)  # type: ignore[assignment, method-assign]
        _following[own] = announce
    try:
        yield
    finally:
        with _lock:
            del _following[own]
            if not _following:
                Function.apply = _apply  # type: ignore[method-assign]


def _follow(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
    announce = _following.get(threading.get_ident())
    if announce is None:
        return _apply.__get__(None, cls)(*args, **kwargs)
    announce(cls)
    if cls.setup_context is Function.setup_context:
        return cls.forward(_Unused(len(args)), *args, **kwargs)
    return cls.forward(*args, **kwargs)
