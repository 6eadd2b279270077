"""Values that depend on parameters alone: evaluated in float64, or in another dtype while a network trains."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

CASTS = frozenset({"float", "double", "half", "bfloat16", "to", "type", "contiguous", "detach", "clone"})
RANDOM = frozenset(
    {"bernoulli", "dropout", "multinomial", "normal", "poisson", "rand", "rand_like", "randn", "randn_like"}
)

_ARITHMETIC: ContextVar[torch.dtype] = ContextVar("arithmetic", default=torch.float64)


@contextmanager
def arithmetic(dtype: torch.dtype) -> Iterator[None]:
    """Build kernels in ``dtype``, with gradients, where every step builds them and float64 would cost more than it is
    worth. Nothing that is to last is computed so."""
    token = _ARITHMETIC.set(dtype)
    try:
        with torch.enable_grad():
            yield
    finally:
        _ARITHMETIC.reset(token)


def arithmetic_dtype() -> torch.dtype:
    """What kernels are built in: float64 but within ``arithmetic``."""
    return _ARITHMETIC.get()


def float64_module(module: nn.Module) -> nn.Module:
    """A private float64 copy whose weights, normed or parametrized, are up to date; with gradients on, the module."""
    if torch.is_grad_enabled():
        return module
    twin = copy.deepcopy(module).double()
    for hook in twin._forward_pre_hooks.values():  # torch.nn.utils.weight_norm and spectral_norm, in their older form
        hook(twin, ())
    return twin


def float64(tensor: Tensor | None) -> Tensor | None:
    """The tensor in float64 (in ``arithmetic_dtype``)."""
    return tensor.to(_ARITHMETIC.get()) if tensor is not None and tensor.is_floating_point() else tensor


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
        arguments: Any = fx.node.map_arg(node.args, self.value)
        keywords: Any = fx.node.map_arg(node.kwargs, self.value)
        if node.op == "call_module":
            return float64_module(self.root.get_submodule(str(node.target)))(*arguments, **keywords)
        if node.op == "call_method":
            tensor: Any = arguments[0]
            if node.target in CASTS:
                return tensor.detach() if node.target == "detach" else tensor
            return getattr(tensor, str(node.target))(*arguments[1:], **keywords)
        assert callable(node.target)
        return node.target(*arguments, **keywords)
