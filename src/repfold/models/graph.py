"""Networks as graphs for a model file, and back: what of a network a file holds besides its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repfold.errors import RepFoldError
from repfold.graph import reading
from repfold.graph.copying import NotCopied, private_copy
from repfold.graph.file import ADVICE, BUFFER, FROZEN, PARAMETER, Written, to_json
from repfold.graph.graph import STATE
from repfold.graph.module import GraphNetwork, to_module
from repfold.graph.naming import parameter_names
from repfold.graph.record import NotFollowed, record
from repfold.graph.symbols import UnknownSize

Description = tuple[dict[str, Any], dict[str, Tensor]]  # a graph as JSON, and the tensors beside it

# What building a module of a graph that makes no sense can raise.
_MALFORMED = (
    *(KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, AssertionError, ArithmeticError),
    MemoryError,
)


def descriptions(network: nn.Module, arguments: tuple[object, ...]) -> Iterator[Description]:
    """Descriptions of a network in eval mode, the more faithful to its layers' names first.

    That of the graph which the network carries, if it still fits the network's tensors, and that of its forward called
    with ``arguments``. Raises: RepFoldError when a forward cannot be described, with what to do.
    """
    if isinstance(network, GraphNetwork) and _fits(network):
        yield _description(network)
    yield _description(_recorded(network, arguments))


def from_json(content: object, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network that a file describes, around its tensors.

    Raises: RepFoldError for anything that ``descriptions`` would not have given.
    """
    ties: Any = {}
    if isinstance(content, dict):
        ties = content.get("tied", {})
        content = {key: part for key, part in content.items() if key != "tied"}
    written = reading.from_json(content, {path: tuple(tensor.shape) for path, tensor in tensors.items()})
    state = {path: _held(tensor, written.state.get(path, BUFFER)) for path, tensor in tensors.items()}
    _tie(state, ties)
    for value in written.graph.state:
        if state[value["path"]].dtype != value.dtype:
            raise RepFoldError(f"'{value['path']}' is of {state[value['path']].dtype}, its graph needs {value.dtype}.")
    names = written.parameter_names
    try:
        return to_module(
            written.graph, state, arguments=written.arguments, output=written.output, parameter_names=names
        )
    except RepFoldError:
        raise
    except _MALFORMED as error:
        raise RepFoldError(f"The graph is malformed: {type(error).__name__}: {error!s:.200}.") from error


def _held(tensor: Tensor, kind: str) -> Tensor:
    if kind == BUFFER or not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor
    return nn.Parameter(tensor, requires_grad=kind == PARAMETER)


def _fits(network: GraphNetwork) -> bool:
    """Whether the tensors are still those of the graph: a layer may have been replaced, or the dtype changed."""
    state = network.state_dict()
    wanted = [(value["path"], value.shape, value.dtype) for value in network.repfold_graph.state]
    return all(p in state and (tuple(state[p].shape), state[p].dtype) == (s, d) for p, s, d in wanted)


def _recorded(network: nn.Module, arguments: tuple[object, ...]) -> GraphNetwork:
    try:
        recorded = record(network, arguments)
    except (NotFollowed, NotCopied, UnknownSize) as error:
        raise RepFoldError(
            f"This {type(network).__name__} is none of repfold.models and its forward cannot be followed ({error}), so "
            f"its file cannot hold how it computes. {ADVICE} Or name the code that builds it: "
            "save(..., description=Description(architecture=Architecture('package.module:factory')))."
        ) from error
    if not isinstance(network, fx.GraphModule):
        _refuse_lost(network, arguments, recorded.state)
    return to_module(
        recorded.graph,
        recorded.state,
        arguments=recorded.arguments,
        output=recorded.output,
        copy=recorded.copy,
        parameter_names=parameter_names(network, len(arguments)),
    )


def _refuse_lost(network: nn.Module, arguments: tuple[object, ...], state: Mapping[str, Tensor]) -> None:
    """Refuse a network with parameters that its forward reads in training alone; those that it never reads may go."""
    kept = {id(tensor) for tensor in state.values()}
    lost = [path for path, parameter in network.named_parameters() if id(parameter) not in kept]
    if not lost:
        return
    try:
        trained = set(record(private_copy(network).train(), arguments).state)
    except (NotFollowed, NotCopied, UnknownSize):
        trained = set(lost)
    for path in lost:
        if path in trained:
            raise RepFoldError(
                f"This network's '{path}' is used only in training, so its graph does not describe it. Build it "
                "with models.create('package.module:factory') and give that as description.architecture."
            )


def _description(described: GraphNetwork) -> Description:
    carried = described.state_dict(keep_vars=True)
    paths = {value["path"] for value in described.repfold_graph.state} | described.repfold_graph.updates.keys()
    written = Written(
        described.repfold_graph,
        described.repfold_arguments,
        described.repfold_output,
        described.repfold_parameter_names,
        {path: _kind(carried[path]) for path in sorted(paths)},
    )
    content = to_json(written)
    _keep_averaging(content, described)
    content["tied"] = _ties({path: carried[path] for path in sorted(paths)})
    return content, {path: tensor.detach() for path, tensor in carried.items()}


def _keep_averaging(content: dict[str, Any], described: GraphNetwork) -> None:
    """A norm whose momentum is None averages over all batches; its operator's arguments show a number."""
    layers = described.named_modules()
    averaging = {f"{path}.running_mean" for path, m in layers if isinstance(m, _BatchNorm) and m.momentum is None}
    statistics = {v["name"] for v in content["values"] if v["op"] == STATE and v["arguments"]["path"] in averaging}
    for value in content["values"]:
        if value["op"] == "batch_norm" and (value["arguments"]["running_mean"] or {}).get("value") in statistics:
            value["arguments"]["momentum"] = None


def _ties(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Tensors that are one with another of an earlier path."""
    first: dict[int, str] = {}
    for path, tensor in state.items():
        first.setdefault(id(tensor), path)
    return {path: first[id(tensor)] for path, tensor in state.items() if first[id(tensor)] != path}


def _tie(state: dict[str, Tensor], ties: object) -> None:
    """Raises: RepFoldError when what is tied is not there, or not alike."""
    for path, first in (ties if isinstance(ties, dict) else {"": ties}).items():
        if path not in state or first not in state or state[path].shape != state[first].shape:
            raise RepFoldError(f"The graph ties {path!r:.60} to {first!r:.60}, which it cannot.")
        state[path] = state[first]


def _kind(tensor: Tensor) -> str:
    if not isinstance(tensor, nn.Parameter):
        return BUFFER
    return PARAMETER if tensor.requires_grad else FROZEN
