"""Joining a convolution and the norm behind it where the forward that calls both cannot be followed.

What cannot be read is watched: on several inputs, the norm alone must read what the convolution gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from repfold.fold.certificate import FoldedRegion
from repfold.fold.compare import leaves
from repfold.fold.plan import plan_graph
from repfold.fold.rewrite import rewrite
from repfold.graph.copying import copies
from repfold.graph.graph import INPUT, STATE, Graph
from repfold.graph.module import to_module
from repfold.graph.record import NotFollowed, record
from repfold.graph.structure import rebuild
from repfold.modules import replace_modules

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
_SIZES = (*range(1, 100), 112, 128, 224, 256, 299, 384, 512)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Joined:
    """The regions that were joined, and what the certificate must remark on them."""

    regions: list[FoldedRegion]
    remarks: list[str]


def join_siblings(network: nn.Module, arguments: tuple[object, ...], policy: str) -> Joined:
    """Fold, in place, the pairs of a layer and a norm of which the norm alone reads what the layer gives."""
    pairs = _watch(network, arguments)
    regions: list[FoldedRegion] = []
    for layer, norm in pairs:
        modules = network.get_submodule(layer), network.get_submodule(norm)
        pair = nn.Sequential(*modules).eval()
        try:
            plan = plan_graph(record(pair, (pairs[layer, norm],)), policy)
        except NotFollowed:
            continue
        rewritten = rewrite(plan)
        if len(rewritten.regions) != 1 or not _takes_all_sizes(rewritten.graph):
            continue
        recorded = plan.recorded.rewritten(rewritten.graph, rewritten.state)
        folded = to_module(rewritten.graph, rewritten.state, arguments=recorded.arguments, output=recorded.output)
        alone = sum(value.op not in (INPUT, STATE) for value in rewritten.graph.values) == 1  # no padding before it
        joined = folded.get_submodule("0") if alone else folded
        replace_modules(network, dict(zip(modules, (joined, nn.Identity()), strict=True)))
        (region,) = rewritten.regions
        regions.append(_named(region, layer, norm))
    if not regions:
        return Joined([], [])
    remark = (
        f"{len(regions)} norms were joined with the layers before them in a forward that cannot be followed: on the "
        "inputs tried nothing else read what is between, and on others it must not"
    )
    return Joined(regions, [remark])


def _takes_all_sizes(graph: Graph) -> bool:
    """Whether the checks hold for many batch and image sizes; channels are fixed by the weights."""
    many = ({leaf: size if leaf[1] == 1 else n for leaf, size in graph.sizes.items()} for n in _SIZES)
    return all(check.holds(sizes) for sizes in many for check in graph.checks)


def _named(region: FoldedRegion, layer: str, norm: str) -> FoldedRegion:
    return replace(region, name=layer, modules=(layer, norm))


def _watch(network: nn.Module, arguments: tuple[object, ...]) -> dict[tuple[str, str], Tensor]:
    """The pairs (layer, norm), each called once, and what the layer reads."""
    watch = _Watch(network)
    inputs = [arguments, *(rebuild(arguments, change) for change in _CHANGES)]
    with watch.hooks():
        for given in inputs:
            watch.begin()
            with torch.no_grad(), watch:
                try:
                    watch.returned(network(*copies(given)))
                except Exception:  # an input that this network does not take: the others show what there is
                    if given is arguments:
                        raise
    return watch.pairs()


def _changed(factor: float) -> Any:
    return lambda leaf: leaf * factor if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


_CHANGES = (_changed(-1.0), _changed(0.0), _changed(100.0))


class _Watch(TorchDispatchMode):
    """Records which modules read the output of each layer; "" is the network itself, or who called it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        modules = dict(network.named_modules())
        self.layers = {path for path, module in modules.items() if isinstance(module, LAYERS)}
        self.norms = {path for path, module in modules.items() if isinstance(module, NORMS) and not module.training}
        self.network = network
        self.running: list[str] = []
        self.given: dict[int, str] = {}  # storage -> the layer that gave it
        self.kept: list[Tensor] = []
        self.readers: dict[str, set[str]] = {}
        self.calls: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.inputs: dict[str, Tensor] = {}

    def begin(self) -> None:
        self.given.clear()
        self.kept.clear()
        self.calls.clear()
        self.running.clear()

    def returned(self, output: object) -> None:
        """Who calls the network reads what it returns."""
        for leaf in leaves(output):
            if isinstance(leaf, Tensor) and (layer := self.given.get(leaf.untyped_storage()._cdata)) is not None:
                self.readers.setdefault(layer, set()).add("")

    def hooks(self) -> Any:
        from contextlib import ExitStack

        stack = ExitStack()
        for path, module in self.network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                continue
            stack.callback(module.register_forward_pre_hook(self._enter(path)).remove)
            stack.callback(module.register_forward_hook(self._leave(path), always_call=True).remove)
        return stack

    def pairs(self) -> dict[tuple[str, str], Tensor]:
        found = {}
        for layer, readers in self.readers.items():
            (norm, *others) = sorted(readers)
            if norm in self.norms and not others and self.most.get(layer) == self.most.get(norm) == 1:
                found[layer, norm] = self.inputs[layer]
        return found

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        here = self.running[-1] if self.running else ""
        for tensor in _tensors((args, kwargs or {})):
            layer = self.given.get(tensor.untyped_storage()._cdata)
            if layer is not None and layer != here:
                self.readers.setdefault(layer, set()).add(here)
        return func(*args, **(kwargs or {}))

    def _enter(self, path: str) -> Any:
        def enter(module: nn.Module, given: tuple[Any, ...]) -> None:
            self.running.append(path)
            self.calls[path] = self.calls.get(path, 0) + 1
            self.most[path] = max(self.most.get(path, 0), self.calls[path])
            if path in self.layers and given:
                self.inputs.setdefault(path, given[0])

        return enter

    def _leave(self, path: str) -> Any:
        def leave(module: nn.Module, given: tuple[object, ...], output: object) -> None:
            self.running.pop()
            if path in self.layers and isinstance(output, Tensor):
                self.given[output.untyped_storage()._cdata] = path
                self.kept.append(output)

        return leave


def _tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
