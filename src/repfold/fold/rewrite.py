"""Rewriting: the folded network as a new graph module of ordinary layers, each region proved as it is replaced."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from repfold.fold.certificate import FoldedRegion, certify, device_of
from repfold.fold.constants import attribute
from repfold.fold.layers import to_layers
from repfold.fold.pieces import Apply, Piece
from repfold.fold.plan import Plan
from repfold.fold.regions import Region


@dataclass(frozen=True)
class Rewritten:
    network: fx.GraphModule
    regions: tuple[FoldedRegion, ...]


def rewrite(plan: Plan) -> Rewritten:
    """A new network with every region replaced by its layer. Raises: FoldError when a region does not prove exact."""
    traced = plan.traced
    graph, calls = call_regions(plan)
    ours = set(calls)
    kept = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr") and node not in ours}
    modules: dict[str, Any] = {}
    folded: list[FoldedRegion] = []
    for region, call, name in zip(plan.regions, calls, name_regions(plan, kept), strict=True):
        layers, certified = _prove(plan, region, name)
        folded.append(certified)
        _insert_layers(graph, call, name, layers, modules)
    for layer in modules.values():
        layer.eval()
    _copy_kept(traced.root, graph, modules)
    network = fx.GraphModule(modules, graph, type(traced.root).__name__)
    network.training = False  # not eval(): what is kept keeps the mode it had
    return Rewritten(network, tuple(folded))


def call_regions(plan: Plan) -> tuple[fx.Graph, list[fx.Node]]:
    """A copy of the graph in which every region is one call of a module, and these calls, their targets still empty."""
    graph = fx.Graph()
    twins: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(plan.traced.graph, twins))
    copied = set(graph.nodes)
    calls = [_call_layers(graph, twins, region) for region in plan.regions]
    for node in reversed(list(graph.nodes)):
        # What only the regions read goes; a call that nothing read before, an assertion say, stays.
        if (
            not node.users
            and node in copied
            and node.op not in ("placeholder", "output")
            and not _was_unread(twins, node)
        ):
            graph.erase_node(node)
    return graph, calls


def _call_layers(graph: fx.Graph, twins: dict[fx.Node, fx.Node], region: Region) -> fx.Node:
    """Call the region's layer right after its source, before anything could write to the source in place."""
    source, target = twins[region.source], twins[region.target]
    place = [n for n in graph.nodes if n.op == "placeholder"][-1] if source.op == "placeholder" else source
    with graph.inserting_after(place):
        call = graph.create_node("call_module", "", (source,), name=region.target.name)
    for user in [user for user in target.users if user is not call]:
        user.replace_input_with(target, call)
    twins[region.target] = call
    return call


def _was_unread(twins: dict[fx.Node, fx.Node], node: fx.Node) -> bool:
    return any(twin is node and not original.users for original, twin in twins.items())


def _prove(plan: Plan, region: Region, name: str) -> tuple[list[nn.Module], FoldedRegion]:
    with torch.no_grad():
        conv = region.reading.build()
        layers = to_layers(conv, plan.traced.values[region.target].dtype, device_of(plan.traced))
        return layers, certify(plan.traced, plan.constants, region, name, conv, nn.Sequential(*layers))


def _insert_layers(graph: fx.Graph, call: fx.Node, name: str, layers: list[nn.Module], modules: dict[str, Any]) -> None:
    """Name the call, and put the padding layers before it."""
    call.target = name
    modules[name] = layers[-1]
    for i, pad in enumerate(layers[:-1]):
        path = f"{name}_pad{i or ''}"
        with graph.inserting_before(call):
            call.args = (graph.call_module(path, call.args),)
        modules[path] = pad


def _copy_kept(root: nn.Module, graph: fx.Graph, modules: dict[str, Any]) -> None:
    """Private copies of everything kept, one memo for all so that tied tensors stay tied."""
    memo: dict[int, Any] = {}
    for node in graph.nodes:
        target = str(node.target)
        if target in modules or node.op not in ("call_module", "get_attr"):
            continue
        kept = root.get_submodule(target) if node.op == "call_module" else attribute(root, target)
        modules[target] = copy.deepcopy(kept, memo)


def name_regions(plan: Plan, kept: set[str]) -> list[str]:
    """A region with one convolution module takes its path; others the module that all their nodes lie in."""
    taken = set(kept)
    names = []
    for region in plan.regions:
        kernels = [node for node in region.interior if _is_kernel(plan.pieces[node])]
        if len(kernels) == 1 and kernels[0].op == "call_module":
            name = str(kernels[0].target)
        else:
            name = f"{_common_path(region)}.conv".lstrip(".")
        base, count = name, 1
        while any(path == name or path.startswith(f"{name}.") or name.startswith(f"{path}.") for path in taken):
            count += 1
            name = f"{base}{count}"
        taken.add(name)
        names.append(name)
    return names


def _is_kernel(piece: Piece) -> bool:
    return isinstance(piece, Apply) and piece.is_kernel


def _common_path(region: Region) -> str:
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
