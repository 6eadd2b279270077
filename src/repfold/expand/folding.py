"""What expand asks of the fold: who calls whom in a network, what it gives, and which kernel a structure folds to.

Nothing else in this room knows how the fold follows a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from repfold.fold import FoldError, make_plan
from repfold.fold.trace import Untraceable, graph_of, run_network

__all__ = ["Calls", "FoldError", "Untraceable", "calls_of", "kernel_of", "output_of"]


@dataclass
class Calls:
    """What a network's forward does with its modules."""

    norm_of: dict[str, str] = field(default_factory=dict)  # convolution -> the module that alone reads its output
    called: Counter[str] = field(default_factory=Counter)
    read: set[str] = field(default_factory=set)  # parameters that are read by name

    def agrees(self, conv: str, norm: str) -> bool:
        """Whether the norm is behind the convolution here, or neither is called."""
        return self.norm_of.get(conv) == norm or not (self.called[conv] or self.called[norm])


def calls_of(network: nn.Module) -> Calls:
    """The calls of a forward in the network's mode; none is run. Raises: Untraceable when it cannot be followed."""
    graph = graph_of(network)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    called = Counter(str(node.target) for node in calls)
    pairs = [(str(node.target), str(user.target)) for node in calls for user in _only_user(node)]
    norm_of = {conv: norm for conv, norm in pairs if called[conv] == called[norm] == 1}
    return Calls(norm_of, called, {str(node.target) for node in graph.nodes if node.op == "get_attr"})


def output_of(network: nn.Module, x: Tensor) -> Any:
    """What the network gives on a copy of ``x``. Raises: FoldError when it cannot run."""
    return run_network(network, (x,))


def kernel_of(structure: nn.Module, example: Tensor) -> Callable[[], Tensor]:
    """Computes the kernel of the one convolution that ``structure`` folds to, in float64 and differentiably, from what
    its parameters hold at each call.
    """
    (region,) = make_plan(structure.eval(), (example,), "always").regions
    return lambda: region.reading.build().weight


def _only_user(node: fx.Node) -> list[fx.Node]:
    """The module call that alone reads the node, if there is one."""
    return [user for user in node.users if len(node.users) == 1 and user.op == "call_module"]
