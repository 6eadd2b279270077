"""A graph's forward for torch.fx: layers of torch.nn where its values are calls of them, else functions of torch."""

from __future__ import annotations

import copy as copying
from collections.abc import Mapping, Sized
from typing import Any

from torch import Tensor, fx, nn

from repfold.graph.call_checks import check_call, specification
from repfold.graph.calls import Calls
from repfold.graph.graph import INPUT, STATE, Value
from repfold.graph.layers import Layer, State, argument_of, build, hold, is_same, is_training, layer_of, submodule
from repfold.graph.naming import Settled
from repfold.graph.packing import items_read, rebuilt
from repfold.graph.structure import PLAIN

DROPOUTS: dict[str, type[nn.Module]] = {
    "dropout": nn.Dropout,
    "dropout1d": nn.Dropout1d,
    "dropout2d": nn.Dropout2d,
    "dropout3d": nn.Dropout3d,
    "alpha_dropout": nn.AlphaDropout,
    "feature_alpha_dropout": nn.FeatureAlphaDropout,
}


class Forward:
    """Builds the forward of a graph, and the modules that it calls below ``root``; ``modes``: path -> training."""

    def __init__(self, plain: Settled, original: nn.Module | None, home: nn.Module | None) -> None:
        self.graph = plain.graph
        self.state = plain.state
        self.original_paths = plain.original
        self.original = home if home is not None else original
        self.home = home
        self.root = nn.Module()
        self.layers: dict[str, Layer] = {}
        self.called: dict[Value, str] = {}  # value -> the path of the module that computes it
        self.modes: dict[str, bool] = {}
        paths = {
            f"{value['path']}." if value.op == "train_only" else value["path"]
            for value in self.graph.values
            if "path" in value.arguments
        }
        self.taken = {path.rpartition(".")[0] for path in paths} | {value.scope for value in self.graph.values}
        for value in self.graph.values:
            self._find_module(value)

    def write(self, arguments: tuple[object, ...], output: object, names: tuple[str, ...]) -> fx.Graph:
        """The torch.fx graph; it calls the modules of ``root``."""
        target = fx.Graph()
        inputs = self._placeholders(target, arguments, names)
        updates = {path: value for path, value in self.graph.updates.items() if path not in self._moved_by_norms()}
        values = self._needed(updates)
        calls = Calls(self.graph, values, target, inputs)
        for position, value in enumerate(values):
            calls.position = position
            calls.keep(value, self._node(calls, value, updates))
        calls.position = len(values)
        written = lambda leaf: calls.read(leaf) if isinstance(leaf, Value) else calls.size(leaf)  # noqa: E731
        result = rebuilt(output, written, calls.function)
        for path, value in updates.items():
            self._set_tensor(path)
            calls.method("copy_", target.get_attr(path), calls.method("detach", calls.read(value)))
        target.output(result)
        return target

    def _find_module(self, value: Value) -> None:
        """Create the module whose call ``value`` is, if it is one and does not exist yet."""
        layer = layer_of(value, self._original)
        if layer is not None:
            self._find_layer(value, layer)
        elif value.op == "train_only":
            module = self._original(value["path"])
            if module is not None:
                self._set_module(value["path"], module if self.home is not None else copying.deepcopy(module))
                self.called[value] = value["path"]
        elif value.op == "dropout" and not self._ignores_mode(value):
            self._find_dropout(value)

    def _find_layer(self, value: Value, layer: Layer) -> None:
        known = self.layers.get(layer.path)
        if known is None:
            before = self._original(layer.path)
            module = build(layer, self._with_count(layer.path, before))
            if any(hasattr(module, name) for name in self._children(layer)):
                return
            if self.home is not None and before is not None:
                module.training = before.training
                module = before if is_same(before, module) else module
            self._set_module(layer.path, module)
            self.layers[layer.path] = layer
            if layer.training and layer.tensors["running_mean"] is not None:
                self.modes[layer.path] = True
        elif known != layer:
            return
        self.called[value] = layer.path

    def _with_count(self, path: str, before: nn.Module | None) -> State:
        """The state with the norm's number of batches seen, which no operator reads."""
        count = getattr(before, "num_batches_tracked", None)
        if not isinstance(count, Tensor):
            return self.state
        return {f"{path}.num_batches_tracked": count if self.home is not None else count.clone(), **self.state}

    def _original(self, path: str) -> nn.Module | None:
        return submodule(self.original, self.original_paths.get(path, path))

    def _children(self, layer: Layer) -> set[str]:
        """Names below the layer's path that are not of its own tensors: a bias may be added without the layer."""
        paths = [*self.state, *(value.scope for value in self.graph.values)]
        below = {path[len(layer.path) + 1 :].split(".")[0] for path in paths if path.startswith(f"{layer.path}.")}
        own = {name for name, path in layer.tensors.items() if path is not None}
        return below - own - {"num_batches_tracked"}

    def _ignores_mode(self, value: Value) -> bool:
        """Whether the forward fixes a dropout's ``training``, whatever the mode of its module."""
        module = self._original(value.scope)
        return self.home is None and module is not None and module.training != value["training"]

    def _find_dropout(self, value: Value) -> None:
        kind, p, scope = DROPOUTS[value["kind"]], value["p"], value.scope
        path = scope if isinstance(self._original(scope), kind) else f"{scope}.dropout".lstrip(".")
        base, count = path, 0
        while (path != scope and path in self.taken) or not self._fits(submodule(self.root, path), kind, p):
            count += 1
            path = f"{base}_{count}"
        if submodule(self.root, path) is None:
            module = submodule(self.home, path)
            if module is None or not self._fits(module, kind, p):
                module = kind(p).train(self.home is None or self.home.training)
            self._set_module(path, module)
        self.modes[path] = value["training"]
        self.called[value] = path

    def _fits(self, module: nn.Module | None, kind: type[nn.Module], p: float) -> bool:
        return module is None or (isinstance(module, kind) and bool(module.p == p))

    def _node(self, calls: Calls, value: Value, updates: Mapping[str, Value]) -> fx.Node:
        if value in calls.inputs:
            return calls.inputs[value]
        if value.op == STATE:
            self._set_tensor(value["path"])
            node = calls.target.get_attr(value["path"])
            # Reads see the buffer as it was before the forward updated it.
            return calls.method("clone", node) if value["path"] in updates else node
        if value in self.called:
            given = argument_of(value) if self.called[value] in self.layers else value["x"]
            return calls.target.call_module(self.called[value], (calls.read(given, value),))
        if value.op == "train_only":
            return calls.read(value["x"], value)
        return calls.write(value)

    def _needed(self, updates: Mapping[str, Value]) -> tuple[Value, ...]:
        """The values to write, without those that only layers read."""
        needed: set[Value] = set()
        waiting = [*self.graph.outputs, *updates.values()]
        while waiting:
            value = waiting.pop()
            if value not in needed:
                needed.add(value)
                is_layer = self.called.get(value) in self.layers
                waiting += [argument_of(value)] if is_layer else value.operands
        return tuple(value for value in self.graph.values if value in needed or value.op == INPUT)

    def _moved_by_norms(self) -> set[str]:
        """Buffers that a norm layer in training updates itself."""
        found: set[str] = set()
        for value in self.graph.values:
            if is_training(value):
                statistics = (value["running_mean"], value["running_var"])
                found |= {
                    statistic["path"] for statistic in statistics if statistic is not None and statistic.op == STATE
                }
        return found | {f"{path}.num_batches_tracked" for path in self.modes if path in self.layers}

    def _placeholders(
        self, target: fx.Graph, arguments: tuple[object, ...], names: tuple[str, ...]
    ) -> dict[Value, fx.Node]:
        """Write the forward's parameters, the reads of tensors from them, and the check of the call."""
        inputs: dict[Value, fx.Node] = {}
        paths: dict[Value, str] = {}
        plain: list[tuple[fx.Node, Any, str]] = []
        nodes = [target.placeholder(name) for name in names]
        for name, node, argument in zip(names, nodes, arguments, strict=True):
            for item, reader, path in items_read(target, node, argument, name):
                if isinstance(item, Value):
                    inputs[item], paths[item] = reader, path
                elif isinstance(item, PLAIN):
                    plain.append((reader, item, path))
                elif isinstance(item, Sized):
                    plain.append((target.call_function(len, (reader,)), len(item), f"len({path})"))
        spec = specification([(paths[value], len(value.shape)) for value in self.graph.inputs], self.graph.checks)
        inputs = {value: inputs[value] for value in self.graph.inputs}
        target.call_function(check_call, (tuple(inputs.values()), spec, tuple(plain)))
        return inputs

    def _set_tensor(self, path: str) -> None:
        owner, _, name = path.rpartition(".")
        if getattr(submodule(self.root, owner), name, None) is None:
            if submodule(self.root, owner) is None:
                self._set_module(owner, nn.Module())
            hold(self.root.get_submodule(owner), name, self.state[path])

    def _set_module(self, path: str, module: nn.Module) -> None:
        """Set the module at ``path``; modules that exist below it are kept."""
        parent = self.root
        *outer, last = path.split(".")
        for part in outer:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent._modules[part]  # type: ignore[assignment]
        present = parent._modules.get(last)
        if present is not None and self.home is None:
            for name, child in present._modules.items():
                module.add_module(name, child)
        parent._modules[last] = module
