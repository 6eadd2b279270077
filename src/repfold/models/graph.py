"""A traced network as JSON and back: nodes in fx's sense, and the layers that they call.

    {"nodes": [{"name", "op", "target", "args", "kwargs"}, ...],
     "modules": {path: {"class": "Conv2d", "arguments": {...}}, ...},
     "attributes": {path: "parameter" | "buffer", ...}}

Values that JSON lacks are objects of one key: {"node": name}, {"tuple": [...]}, {"slice": [start, stop, step]},
{"dict": {...}}, {"dtype": "float32"}, {"device": "cpu"}, {"memory_format": ...}, {"float": "inf"}, {"ellipsis": true}.
fx turns a graph into Python source and runs it, so on reading every name is checked to be a plain identifier and every
target to be in the closed vocabulary.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from repfold.errors import RepFoldError
from repfold.models import layers
from repfold.models.graph_values import decode, encode
from repfold.models.vocabulary import ATTRIBUTES, METHODS, function_names, functions

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH_PART = re.compile(r"[A-Za-z0-9_]+")
_ADVICE = "Such a network can be exported as .pt2 instead."


def to_json(network: fx.GraphModule) -> dict[str, Any]:
    """Describe the graph and its layers; the tensors are those of ``graph_state``.

    Raises: RepFoldError that names the first node or layer that is outside the vocabulary.
    """
    nodes: list[dict[str, Any]] = []
    modules: dict[str, Any] = {}
    attributes: dict[str, str] = {}
    for node in network.graph.nodes:
        target = node.target
        if node.op == "call_module":
            modules[target] = _layer_to_json(network.get_submodule(target), target)
        elif node.op == "get_attr":
            attributes[target] = _attribute_kind(network, target)
        elif node.op == "call_function":
            target = function_names().get(node.target)
            if target is None:
                raise RepFoldError(f"Node '{node.name}' calls {node.target}, which a model file cannot hold. {_ADVICE}")
        elif node.op == "call_method" and target not in METHODS:
            raise RepFoldError(f"Node '{node.name}' calls the method '{target}', not allowed in a file. {_ADVICE}")
        written = {"name": node.name, "op": node.op, "target": target}
        written["args"] = [encode(value, node.name) for value in node.args]
        written["kwargs"] = {key: encode(value, node.name) for key, value in node.kwargs.items()}
        nodes.append(written)
    return {"nodes": nodes, "modules": modules, "attributes": attributes}


def graph_state(network: fx.GraphModule) -> dict[str, torch.Tensor]:
    """The entries of the state_dict that the graph's nodes use; a traced network may carry layers nothing calls."""
    used = {node.target for node in network.graph.nodes if node.op in ("call_module", "get_attr")}
    return {key: value for key, value in network.state_dict().items() if key in used or _owners(key) & used}


def from_json(content: Any, shapes: Mapping[str, tuple[int, ...]]) -> fx.GraphModule:
    """Rebuild the network on the meta device; its parameters have shapes but no values yet.

    ``shapes`` are those of the tensors that the file holds; the graph's attributes take theirs from it.
    Raises: RepFoldError for anything that ``to_json`` would not have written.
    """
    try:
        nodes, modules, attributes = content["nodes"], content["modules"], content["attributes"]
        root: dict[str, Any] = {}
        for path, layer in modules.items():
            _check_path(path)
            values = {key: decode(value, {}) for key, value in layer["arguments"].items()}
            root[path] = layers.build(layer["class"], values)
        for path, kind in attributes.items():
            _check_path(path)
            if path not in shapes:
                raise RepFoldError(f"The graph uses the tensor '{path}', which is not in the file.")
            empty = torch.empty(shapes[path], device="meta")
            root[path] = nn.Parameter(empty) if kind == "parameter" else empty
        graph = _read_nodes(nodes, modules, attributes)
        graph.lint()
        return fx.GraphModule(root, graph, class_name="Folded")
    except RepFoldError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, AssertionError, ValueError) as error:
        raise RepFoldError(f"The graph is malformed: {type(error).__name__}: {error}.") from error


def _layer_to_json(layer: nn.Module, path: str) -> dict[str, Any]:
    name = layers.class_name(layer)
    if name is None:
        raise RepFoldError(
            f"'{path}' is a {type(layer).__module__}.{type(layer).__qualname__}, which a model file cannot hold: it "
            f"holds layers of torch.nn. {_ADVICE}"
        )
    return {"class": name, "arguments": {key: encode(value, path) for key, value in layers.arguments(layer).items()}}


def _attribute_kind(network: fx.GraphModule, path: str) -> str:
    owner_path, _, name = path.rpartition(".")
    value = getattr(network.get_submodule(owner_path), name)
    if not isinstance(value, torch.Tensor):
        raise RepFoldError(f"The graph reads '{path}', a {type(value).__name__} and not a tensor. {_ADVICE}")
    return "parameter" if isinstance(value, nn.Parameter) else "buffer"


def _read_nodes(nodes: list[dict[str, Any]], modules: dict[str, Any], attributes: dict[str, str]) -> fx.Graph:
    if [written["op"] for written in nodes].index("output") != len(nodes) - 1:
        raise RepFoldError("The graph's output is not its last node.")
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for written in nodes:
        name, op = _identifier(written["name"]), written["op"]
        if name in known:
            raise RepFoldError(f"The graph has two nodes named '{name}'.")
        args = tuple(decode(value, known) for value in written["args"])
        kwargs = {_identifier(key): decode(value, known) for key, value in written["kwargs"].items()}
        target = _resolve(op, written["target"], args, kwargs, modules, attributes)
        node = graph.output(args[0]) if op == "output" else graph.create_node(op, target, args, kwargs, name=name)
        known[name] = node
    return graph


def _resolve(
    op: str, target: str, args: tuple, kwargs: dict, modules: dict[str, Any], attributes: dict[str, str]
) -> Any:
    """The fx target for a written one, if it is allowed."""
    if op == "placeholder":
        return _identifier(target)
    if op == "output":
        return target
    if op == "call_module" and target in modules:
        return target
    if op == "get_attr" and target in attributes:
        return target
    if op == "call_method" and target in METHODS:
        return target
    if op == "call_function" and target in functions():
        if target == "builtins.getattr" and (kwargs or len(args) != 2 or args[1] not in ATTRIBUTES):
            raise RepFoldError(f"The graph reads an attribute that a model file may not: {args[1:]}.")
        return functions()[target]
    raise RepFoldError(f"The graph's {op} of {target!r} is not one that a model file may hold.")


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name) or keyword.iskeyword(name):
        raise RepFoldError(f"The graph uses {name!r} where a plain name belongs.")
    return name


def _check_path(path: str) -> None:
    """A path names layers below the network; none of its parts may shadow what nn.Module itself defines."""
    for part in path.split("."):
        if not _PATH_PART.fullmatch(part) or hasattr(fx.GraphModule, part) or part.startswith("__"):
            raise RepFoldError(f"The graph uses {path!r} as the name of a layer or tensor.")


def _owners(key: str) -> set[str]:
    parts = key.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}
