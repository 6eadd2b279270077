"""Tracing: a network's forward as a graph of calls that keeps modules and free sizes, with every value's shape known.

In-place writes are resolved here: whoever reads a tensor after it was written to reads the result of the write.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from repfold.fold.errors import FoldError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

# Calls whose result shares storage with their first argument.
VIEWS = frozenset(
    "view view_as reshape flatten unflatten transpose swapaxes permute movedim squeeze unsqueeze expand expand_as "
    "narrow getitem chunk split unbind select contiguous detach to float double t T mT diagonal unfold "
    "Identity Flatten Unflatten Dropout Dropout1d Dropout2d Dropout3d dropout dropout1d dropout2d dropout3d".split()
)


class Untraceable(Exception):
    """The forward cannot be traced as a whole; the message says why."""


@dataclass(frozen=True)
class Traced:
    """A traced network.

    ``values`` holds what each node gave on the example: a ``torch.Size``-bearing meta tensor, or a plain Python value.
    ``pinned`` holds the nodes whose storage is written to through a view: they stay as they are.
    """

    root: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any]
    pinned: frozenset[fx.Node] = field(default_factory=frozenset)

    def shape(self, node: fx.Node) -> tuple[int, ...] | None:
        value = self.values.get(node)
        return tuple(value.shape) if isinstance(value, Tensor) else None

    def module(self, node: fx.Node) -> nn.Module:
        return self.root.get_submodule(str(node.target))


class _Tracer(fx.Tracer):
    """Leaves are the modules whose forward is PyTorch's own; whatever a user wrote is traced through."""

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


def graph_of(network: nn.Module) -> fx.Graph:
    """The network's calls, none of them run. Raises: Untraceable when forward's Python cannot be followed."""
    try:
        # What a forward computes with buffers is then kept, to be computed in float64 and not rounded here and now.
        return _Tracer(reads_buffers=True).trace(network)
    except Exception:  # the tracer runs the user's forward: anything can come out; a decision by a buffer, say
        pass
    try:
        return _Tracer(reads_buffers=False).trace(network)
    except Exception as error:
        raise Untraceable(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error


def trace(network: nn.Module, arguments: tuple[Any, ...]) -> Traced:
    """Trace ``network`` and run the trace on ``arguments``.

    Raises: Untraceable when forward's Python cannot be followed; FoldError when the network itself cannot run on the
    example.
    """
    graph = graph_of(network)
    pinned = _resolve_in_place(network, graph)
    recorder = _Recorder(network, graph)
    with torch.no_grad():
        try:
            recorder.run(*private(arguments))
        except Exception as error:
            raise Untraceable(f"its trace does not run: {type(error).__name__}: {error}") from error
    return Traced(network, graph, recorder.values, frozenset(pinned))


def run_network(network: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """The network's own output on the example. Raises: FoldError when it cannot run."""
    with torch.no_grad():
        try:
            return network(*private(arguments))
        except Exception as error:
            shapes = ", ".join(f"{tuple(a.shape)} {a.dtype}" if isinstance(a, Tensor) else repr(a) for a in arguments)
            raise FoldError(
                f"{type(network).__name__} cannot run on the example ({shapes}): {type(error).__name__}: {error}. "
                "Give an example of the shape, dtype and device that the network takes."
            ) from error


def private(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies that an in-place forward may write to."""
    return fx.node.map_aggregate(arguments, lambda v: v.detach().clone() if isinstance(v, Tensor) else v)


class _Recorder(fx.Interpreter):
    """Runs a graph once and keeps, of every value, the shape and dtype."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n] = fx.node.map_aggregate(result, _shape_only)
        return result


def _shape_only(value: Any) -> Any:
    return torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value


def _resolve_in_place(root: nn.Module, graph: fx.Graph) -> set[fx.Node]:
    """Let later readers of a written tensor read the write's result; return the nodes for which that is not enough."""
    storage: dict[fx.Node, fx.Node] = {}
    pinned: set[fx.Node] = set()
    position = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        operand = next(iter(node.all_input_nodes), None)
        owner = storage.get(operand, operand) if operand is not None else None
        written = written_operand(root, node)
        storage[node] = owner if owner is not None and (written is not None or _name(root, node) in VIEWS) else node
        if written is None:
            continue
        aliases = [n for n, base in storage.items() if base is storage[written] and n not in (written, node)]
        late = [n for n in aliases if any(position[user] > position[node] for user in n.users)]
        if late or written.op == "get_attr":
            pinned.update((written, node, *aliases))
        for user in [user for user in written.users if position[user] > position[node]]:
            user.replace_input_with(written, node)
    return pinned


def written_operand(root: nn.Module, node: fx.Node) -> fx.Node | None:
    """The node whose tensor this call writes to, or None."""
    first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
    if node.op == "call_module":
        return first if getattr(root.get_submodule(str(node.target)), "inplace", False) else None
    if node.op == "call_method":
        name = str(node.target)
        return first if name.endswith("_") and not name.endswith("__") else None
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        out = node.kwargs.get("out")
        if isinstance(out, fx.Node):
            return out
        in_operator = getattr(node.target, "__module__", "") == "_operator" and name in _IN_PLACE_OPERATORS
        return first if in_operator or name.endswith("_") or _asks_in_place(node) else None
    return None


def _asks_in_place(node: fx.Node) -> bool:
    """Whether a functional such as F.relu(x, True) was called with its argument ``inplace`` set."""
    if node.kwargs.get("inplace") is True:
        return True
    if getattr(node.target, "__module__", "") != "torch.nn.functional" or len(node.args) < 2:
        return False
    names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
    return "inplace" in names[: len(node.args)] and node.args[names.index("inplace")] is True


_IN_PLACE_OPERATORS = frozenset("iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor".split())


def _name(root: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    target: str | Callable[..., Any] = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", "")
