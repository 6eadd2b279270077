"""Values that depend on parameters alone: evaluated in float64, or as they are when gradients are wanted."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

CASTS = frozenset({"float", "double", "half", "bfloat16", "to", "type", "contiguous", "detach", "clone"})
RANDOM = frozenset(
    {"bernoulli", "dropout", "multinomial", "normal", "poisson", "rand", "rand_like", "randn", "randn_like"}
)


def float64_module(module: nn.Module) -> nn.Module:
    """A private float64 copy whose weights, normed or parametrized, are up to date; with gradients on, the module."""
    if torch.is_grad_enabled():
        return module
    twin = copy.deepcopy(module).double()
    for hook in twin._forward_pre_hooks.values():  # torch.nn.utils.weight_norm and spectral_norm, in their older form
        hook(twin, ())
    return twin


def float64(tensor: Tensor | None) -> Tensor | None:
    return tensor.double() if tensor is not None and tensor.is_floating_point() else tensor


def float64_weights(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias in float64."""
    twin = float64_module(module)
    weight, bias = float64(getattr(twin, "weight")), float64(getattr(twin, "bias"))  # noqa: B009
    assert weight is not None
    return weight, bias


def has_derived_weight(module: nn.Module) -> bool:
    """Whether the module computes its weight at every call."""
    return parametrize.is_parametrized(module) or bool(module._forward_pre_hooks)


def attribute(root: nn.Module, target: str) -> Any:
    """The parameter, buffer or constant that a ``get_attr`` node names."""
    path, _, name = target.rpartition(".")
    return getattr(root.get_submodule(path), name)


class Constants:
    """The nodes of a graph that depend on no input, and their values."""

    def __init__(self, root: nn.Module, graph: fx.Graph, pinned: frozenset[fx.Node]) -> None:
        self.root = root
        self.nodes: set[fx.Node] = set()
        for node in graph.nodes:
            if node not in pinned and self._is_constant(node):
                self.nodes.add(node)

    def _is_constant(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            return isinstance(attribute(self.root, str(node.target)), Tensor)
        if node.op in ("placeholder", "output") or not node.all_input_nodes:
            return False
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        return name not in RANDOM and all(operand in self.nodes for operand in node.all_input_nodes)

    def parameters_of(self, node: fx.Node) -> set[str]:
        """The names of the parameters and buffers that ``node`` is computed from."""
        if node.op == "get_attr":
            return {str(node.target)}
        return set().union(*(self.parameters_of(operand) for operand in node.all_input_nodes))

    def value(self, node: fx.Node) -> Any:
        """The node's value, floating tensors in float64."""
        if node.op == "get_attr":
            return float64(attribute(self.root, str(node.target)))
        arguments = fx.node.map_arg(node.args, self.value)
        keywords = fx.node.map_arg(node.kwargs, self.value)
        if node.op == "call_module":
            return float64_module(self.root.get_submodule(str(node.target)))(*arguments, **keywords)
        if node.op == "call_method":
            if node.target in CASTS:
                return arguments[0].detach() if node.target == "detach" else arguments[0]
            return getattr(arguments[0], str(node.target))(*arguments[1:], **keywords)
        assert callable(node.target)
        return node.target(*arguments, **keywords)
