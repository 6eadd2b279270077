"""A private copy of a network, so that the user's own is never changed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from repfold.graph.structure import UnknownContainer, rebuild


class NotCopied(Exception):
    """The network cannot be copied; the message says why."""


def private_copy(network: nn.Module) -> nn.Module:
    """A copy that shares nothing with ``network``: parameters, buffers, tensors kept as plain attributes.

    Raises: NotCopied.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        for value in vars(module).values():
            # PyTorch copies only leaves of the autograd graph: a weight that a hook computes is none.
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # a module may hold anything: locks, files, handles of another library
        raise NotCopied(f"{type(error).__name__}: {error}") from error


def copies(arguments: tuple[object, ...]) -> tuple[Any, ...]:
    """The arguments with their tensors cloned, as a forward may write to them; unknown containers stay the same."""

    def fresh(leaf: object) -> Any:
        return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf

    return tuple(_copied(argument, fresh) for argument in arguments)


def _copied(argument: object, fresh: Any) -> Any:
    try:
        return rebuild(argument, fresh)
    except UnknownContainer:
        return argument


def register_plain_tensors(network: nn.Module) -> None:
    """Turn tensors that modules keep as plain attributes into buffers, in place.

    Except where the class has an attribute of that name, which would hide the buffer.
    """
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.layout is torch.strided and name not in dir(type(module)):
                delattr(module, name)
                module.register_buffer(name, value.detach(), persistent=False)
