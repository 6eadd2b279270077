"""Which module calls which in a network, found without running it: enough to find the norm behind a convolution.

No example is asked for, so the forward is followed at the level of its module calls. Nothing exact rests on it: it only
locates layers, and whether the expanded network computes the same is checked separately.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from repfold.errors import first_line

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class NotFollowed(Exception):
    """The forward's Python cannot be followed; the message says why."""


@dataclass
class Calls:
    """What a network's forward does with its modules."""

    norm_of: dict[str, str] = field(default_factory=dict)  # convolution -> the module that alone reads its output
    called: Counter[str] = field(default_factory=Counter)
    read: set[str] = field(default_factory=set)  # parameters and buffers that are read by name

    def agrees(self, conv: str, norm: str) -> bool:
        """Whether the norm is behind the convolution here, or neither is called."""
        return self.norm_of.get(conv) == norm or not (self.called[conv] or self.called[norm])


def calls_of(network: nn.Module) -> Calls:
    """The calls of the forward in the network's mode. Raises: NotFollowed when its Python cannot be followed."""
    graph = _graph_of(network)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    called = Counter(str(node.target) for node in calls)
    pairs = [(str(node.target), str(user.target)) for node in calls for user in _only_user(node)]
    norm_of = {conv: norm for conv, norm in pairs if called[conv] == called[norm] == 1}
    return Calls(norm_of, called, {str(node.target) for node in graph.nodes if node.op == "get_attr"})


def _only_user(node: fx.Node) -> list[fx.Node]:
    """The module call that alone reads the node, if there is one."""
    return [user for user in node.users if len(node.users) == 1 and user.op == "call_module"]


class _Tracer(fx.Tracer):
    """Leaves are the modules whose forward is PyTorch's own; whatever a user wrote is followed."""

    def __init__(self, *, reads_buffers: bool) -> None:
        super().__init__()
        self.proxy_buffer_attributes = reads_buffers

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, CONTAINERS) or "forward" in vars(m):
            return False
        owner = next(c for c in type(m).__mro__ if "forward" in vars(c))
        own_convolution = "_conv_forward" in vars(type(m)) and not type(m).__module__.startswith("torch.nn")
        return isinstance(m, torch.jit.ScriptModule) or (
            owner.__module__.startswith("torch.nn") and not own_convolution
        )


def _graph_of(network: nn.Module) -> fx.Graph:
    try:
        return _Tracer(reads_buffers=True).trace(network)
    except Exception:  # it runs the user's forward, from which anything can come: a decision by a buffer, say
        pass
    try:
        return _Tracer(reads_buffers=False).trace(network)
    except Exception as error:
        raise NotFollowed(f"{type(error).__name__}: {first_line(error)}") from error
