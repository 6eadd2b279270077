"""A private copy of a network: what is done to it, the network of the user never feels."""

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


def copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments that a forward may write to; what cannot be taken apart stays what it is."""

    def fresh(leaf: Any) -> Any:
        return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf

    return tuple(_copied(argument, fresh) for argument in arguments)


def _copied(argument: Any, fresh: Any) -> Any:
    try:
        return rebuild(argument, fresh)
    except UnknownContainer:
        return argument


def register_plain_tensors(network: nn.Module) -> None:
    """Make the tensors that modules keep as plain attributes buffers, in place: they are state like any other.

    But for those whose class has something of that name, which would be found before the buffer.
    """
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.layout is torch.strided and name not in dir(type(module)):
                delattr(module, name)
                module.register_buffer(name, value.detach(), persistent=False)
