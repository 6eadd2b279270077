"""The way back: a graph as an ordinary PyTorch module of torch.nn's layers and torch's functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import fx, nn

from repfold.graph.forward import Forward
from repfold.graph.graph import Check, Graph, Value, map_argument
from repfold.graph.layers import State
from repfold.graph.naming import settled
from repfold.graph.packing import rebuilt


class GraphNetwork(fx.GraphModule):
    """A module that computes a graph, and carries it: the paths of its state are keys of the module's state_dict.

    Attributes:
        repfold_graph: the graph.
        repfold_arguments: what it is called with, the graph's input Values instead of tensors.
        repfold_output: what it returns, with the graph's Values likewise.
        repfold_parameter_names: the names of its forward's parameters.
    """

    __jit_ignored_attributes__: ClassVar[list[str]] = [
        "repfold_graph",
        "repfold_arguments",
        "repfold_output",
        "repfold_parameter_names",
    ]

    repfold_graph: Graph
    repfold_arguments: tuple[Any, ...]
    repfold_output: Any
    repfold_parameter_names: tuple[str, ...]

    def carry(
        self, graph: Graph, arguments: tuple[object, ...], output: object, parameter_names: tuple[str, ...]
    ) -> None:
        """Set the four attributes."""
        self.repfold_graph = graph
        self.repfold_arguments = arguments
        self.repfold_output = output
        self.repfold_parameter_names = parameter_names

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphNetwork:
        """Graphs are immutable, so the copy shares this one."""
        carried = (self.repfold_graph, self.repfold_arguments, self.repfold_output, self.repfold_parameter_names)
        memo.update({id(item): item for item in carried})
        twin = super().__deepcopy__(memo)
        assert isinstance(twin, GraphNetwork)
        type(twin).__name__ = type(self).__name__
        twin.carry(*carried)
        _set_modes(twin, _modes(self))
        return twin

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as its graph, flat, and its layers; torch.fx would write source code, and trace it again."""
        layers = nn.Module()
        for kind in ("_modules", "_parameters", "_buffers"):
            getattr(layers, kind).update(getattr(self, kind))
        return _unpickled, (_flat(self), self.repfold_parameter_names, type(self).__name__, layers, _modes(self))


def to_module(
    graph: Graph,
    state: State,
    *,
    arguments: tuple[object, ...],
    output: object,
    copy: nn.Module | None = None,
    home: nn.Module | None = None,
    name: str = "Folded",
    parameter_names: tuple[str, ...] | None = None,
) -> GraphNetwork:
    """The module that computes ``graph``, its layers at the paths of their tensors.

    Args:
        state: the tensors, by path; they are the module's own from now on, Parameters as Parameters.
        arguments, output: what the network takes and returns, Values instead of tensors, Expressions of sizes.
        copy: the network that was recorded (``Recorded.copy``), for what its operators do not show.
        home: a live network whose own layers are called instead of new ones where they are the graph's.
        parameter_names: those of the forward's parameters; "x", "x1", ... if not given.

    Paths that a module of torch.fx cannot hold ("code", "graph") get a "_" at the end, in the carried graph too. All is
    in evaluation mode, but for norms and dropouts that were recorded in training and the layers of ``home``.
    Called with sizes or plain values that the graph does not hold for, it raises RepFoldError.
    """
    plain = settled(graph, state)
    arguments, output = rebuilt(arguments, plain.renew), rebuilt(output, plain.renew)
    names = (parameter_names or tuple(f"x{i or ''}" for i in range(len(arguments))))[: len(arguments)]
    forward = Forward(plain, copy, home)
    network = GraphNetwork(forward.root, forward.write(arguments, output, names), name)
    if home is None:
        network.eval()
        _set_modes(network, forward.modes)
    else:
        network.training = home.training
    network.carry(plain.graph, arguments, output, names)
    return network


def _modes(network: nn.Module) -> dict[str, bool]:
    return {path: module.training for path, module in network.named_modules(remove_duplicate=False)}


def _set_modes(network: nn.Module, modes: Mapping[str, bool]) -> None:
    for path, training in modes.items():
        network.get_submodule(path).training = training


@dataclass(frozen=True)
class _Flat:
    """A carried graph with every Value replaced by its number: chains of Values are too deep to be pickled."""

    values: tuple[Value, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    updates: dict[str, Value]
    checks: tuple[Check, ...]
    sizes: dict[tuple[int, int], int]
    arguments: tuple[Any, ...]
    output: Any


def _flat(network: GraphNetwork) -> _Flat:
    graph = network.repfold_graph
    numbered = {value: Value("number", {"index": i}, (), value.dtype, "") for i, value in enumerate(graph.values)}

    def number(leaf: object) -> Any:
        return numbered[leaf] if isinstance(leaf, Value) else leaf

    return _Flat(
        values=tuple(_reading(value, number) for value in graph.values),
        inputs=tuple(map(number, graph.inputs)),
        outputs=tuple(map(number, graph.outputs)),
        updates={path: number(value) for path, value in graph.updates.items()},
        checks=graph.checks,
        sizes=dict(graph.sizes),
        arguments=rebuilt(network.repfold_arguments, number),
        output=rebuilt(network.repfold_output, number),
    )


def _unpickled(
    flat: _Flat, names: tuple[str, ...], name: str, layers: nn.Module, modes: Mapping[str, bool]
) -> GraphNetwork:
    values: list[Value] = []

    def at(leaf: object) -> Any:
        return values[leaf["index"]] if isinstance(leaf, Value) else leaf

    for value in flat.values:
        values.append(_reading(value, at))
    graph = Graph(
        inputs=tuple(map(at, flat.inputs)),
        values=tuple(values),
        outputs=tuple(map(at, flat.outputs)),
        updates={path: at(value) for path, value in flat.updates.items()},
        checks=flat.checks,
        sizes=flat.sizes,
    )
    state = dict([*layers.named_parameters(remove_duplicate=False), *layers.named_buffers(remove_duplicate=False)])
    arguments, output = rebuilt(flat.arguments, at), rebuilt(flat.output, at)
    network = to_module(graph, state, arguments=arguments, output=output, home=layers, name=name, parameter_names=names)
    _set_modes(network, modes)
    return network


def _reading(value: Value, change: Callable[[Value], Value]) -> Value:
    """``value`` with other operands."""
    return replace(value, arguments={name: map_argument(a, change) for name, a in value.arguments.items()})
