"""Rewriting: the folded network as a new graph module of ordinary layers, each region proved as it is replaced."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from repfold.fold.certificate import FoldedRegion, certify
from repfold.fold.constants import Constants, attribute
from repfold.fold.layers import to_layers
from repfold.fold.pieces import Apply, Piece
from repfold.fold.regions import Region
from repfold.fold.trace import Traced


@dataclass(frozen=True)
class Rewritten:
    network: fx.GraphModule
    regions: tuple[FoldedRegion, ...]


def rewrite(traced: Traced, pieces: dict[fx.Node, Piece], constants: Constants, regions: list[Region]) -> Rewritten:
    """A new network with every region replaced by its layer. Raises: FoldError when a region does not prove exact."""
    graph = fx.Graph()
    twins: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(traced.graph, twins))
    modules: dict[str, Any] = {}
    folded: list[FoldedRegion] = []
    names = name_regions(traced, pieces, regions)
    for region, name in zip(regions, names, strict=True):
        with torch.no_grad():
            conv = region.reading.build()
            value = traced.values[region.target]
            layers = to_layers(conv, value.dtype, _device(traced))
            folded.append(certify(traced, constants, region, name, conv, nn.Sequential(*layers)))
        del conv
        paths = [f"{name}_pad{i or ''}" for i in range(len(layers) - 1)] + [name]
        modules.update(zip(paths, layers, strict=True))
        _replace(graph, twins, region, paths)
    _erase_unused(graph, {twins[node] for node in traced.graph.nodes if node.users and node.op != "placeholder"})
    _copy_kept(traced.root, graph, modules)
    network = fx.GraphModule(modules, graph, type(traced.root).__name__)
    return Rewritten(network.train(traced.root.training), tuple(folded))


def _replace(graph: fx.Graph, twins: dict[fx.Node, fx.Node], region: Region, paths: list[str]) -> None:
    """Call the layers right after the source, before anything could write to it in place."""
    source, target = twins[region.source], twins[region.target]
    value = source
    place = _last_placeholder(graph) if source.op == "placeholder" else source
    for path in paths:
        with graph.inserting_after(place):
            value = place = graph.call_module(path, (value,))
    for user in [user for user in target.users if user is not value]:
        user.replace_input_with(target, value)


def _last_placeholder(graph: fx.Graph) -> fx.Node:
    return [node for node in graph.nodes if node.op == "placeholder"][-1]


def _erase_unused(graph: fx.Graph, superfluous: set[fx.Node]) -> None:
    """Erase what only the folded regions read; a call that nothing read before, an assertion say, stays."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node in superfluous:
            graph.erase_node(node)


def _copy_kept(root: nn.Module, graph: fx.Graph, modules: dict[str, Any]) -> None:
    """Private copies of everything kept, one memo for all so that tied tensors stay tied."""
    memo: dict[int, Any] = {}
    for node in graph.nodes:
        target = str(node.target)
        if target in modules or node.op not in ("call_module", "get_attr"):
            continue
        kept = root.get_submodule(target) if node.op == "call_module" else attribute(root, target)
        modules[target] = copy.deepcopy(kept, memo)


def name_regions(traced: Traced, pieces: dict[fx.Node, Piece], regions: list[Region]) -> list[str]:
    """A region with one convolution module takes its path; others take the module that all their nodes lie in."""
    taken: Counter[str] = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    names = []
    for region in regions:
        own = Counter(str(node.target) for node in region.interior if node.op == "call_module")
        taken.subtract(own)
        kernels = [node for node in region.interior if _is_kernel(pieces[node])]
        if len(kernels) == 1 and kernels[0].op == "call_module":
            name = str(kernels[0].target)
        else:
            name = f"{_common_path(traced, region)}.conv".lstrip(".")
        base, count = name, 1
        while taken[name] > 0 or any(other.startswith(f"{name}.") for other in taken if taken[other] > 0):
            count += 1
            name = f"{base}{count}"
        taken[name] += 1
        names.append(name)
    return names


def _is_kernel(piece: Piece) -> bool:
    return isinstance(piece, Apply) and piece.is_kernel


def _common_path(traced: Traced, region: Region) -> str:
    """The innermost module that all of the region's nodes were called in."""
    paths = [_scope(node) for node in region.interior]
    common = paths[0]
    for path in paths[1:]:
        same = [a == b for a, b in zip(common, path, strict=False)]
        common = common[: same.index(False) if False in same else len(same)]
    return ".".join(common)


def _scope(node: fx.Node) -> list[str]:
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed([entry[0] for entry in stack.values()]), "") if stack else ""
    if node.op == "call_module":
        path = str(node.target).rpartition(".")[0]
    return path.split(".") if path else []


def _device(traced: Traced) -> torch.device:
    return next((p.device for p in traced.root.parameters()), torch.device("cpu"))
