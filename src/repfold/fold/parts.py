"""Folding a module whole, or part by part where its Python cannot be traced."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from repfold.fold.certificate import FoldedRegion
from repfold.fold.plan import make_plan
from repfold.fold.rewrite import rewrite
from repfold.fold.trace import Untraceable, private


@dataclass(frozen=True)
class Folded:
    """A folded module; ``left`` are names and reasons."""

    network: nn.Module
    regions: list[FoldedRegion]
    left: list[tuple[str, str]]


def fold_module(module: nn.Module, arguments: tuple[Any, ...], policy: str, path: str = "") -> Folded:
    """Fold ``module``, whose place in the network is ``path``. Raises: FoldError when a region does not prove exact."""
    try:
        plan = make_plan(module, arguments, policy)
    except Untraceable as refusal:
        return _fold_children(module, arguments, policy, path, str(refusal))
    rewritten = rewrite(plan)
    left = [(_join(path, _label(item.node)), item.reason) for item in plan.left]
    regions = [_placed(region, path) for region in rewritten.regions]
    return Folded(rewritten.network, regions, left)


def _fold_children(module: nn.Module, arguments: tuple[Any, ...], policy: str, path: str, reason: str) -> Folded:
    """A copy of ``module`` with every child folded that was called, whose replacement changes nothing."""
    calls = _record_calls(module, arguments)
    result = copy.deepcopy(module)
    regions: list[FoldedRegion] = []
    left = [(path or type(module).__name__, f"its forward cannot be traced as a whole ({reason}); folded part by part")]
    for name, child in _called_descendants(module, calls):
        folded = fold_module(child, calls[name], policy, _join(path, name))
        left += folded.left
        if not folded.regions:
            continue
        original = result.get_submodule(name)
        _set_submodule(result, name, folded.network)
        if _runs(result, arguments):
            regions += folded.regions
        else:
            _set_submodule(result, name, original)
            left.append((_join(path, name), "the module around it uses more of it than its output"))
    return Folded(result, regions, left)


def _record_calls(module: nn.Module, arguments: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """For every submodule that is called with positional arguments alone: those of its first call."""
    calls: dict[str, tuple[Any, ...]] = {}
    handles = []
    for name, child in module.named_modules():
        if not name:
            continue

        def record(_: nn.Module, given: tuple[Any, ...], keywords: dict[str, Any], name: str = name) -> None:
            if not keywords and name not in calls:
                calls[name] = private(given)

        handles.append(child.register_forward_pre_hook(record, with_kwargs=True))
    try:
        with torch.no_grad():
            module(*private(arguments))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _called_descendants(module: nn.Module, calls: dict[str, tuple[Any, ...]]) -> list[tuple[str, nn.Module]]:
    """The outermost called modules below ``module``; a list of modules is never called, so its items count."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        if name in calls:
            found.append((name, child))
        else:
            below = {key.removeprefix(f"{name}."): value for key, value in calls.items() if key.startswith(f"{name}.")}
            found += [(f"{name}.{inner}", m) for inner, m in _called_descendants(child, below)]
    return found


def _set_submodule(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def _runs(network: nn.Module, arguments: tuple[Any, ...]) -> bool:
    """Whether the network still runs with the part replaced; its values are proved at the end."""
    with torch.no_grad():
        try:
            network(*private(arguments))
        except Exception:  # an attribute of the child that the parent reads and a graph module lacks
            return False
    return True


def _placed(region: FoldedRegion, path: str) -> FoldedRegion:
    """The region under the names that its modules have in the whole network."""
    return replace(
        region, name=_join(path, region.name), modules=tuple(_join(path, module) for module in region.modules)
    )


def _join(path: str, name: str) -> str:
    return ".".join(part for part in (path, name) if part)


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name
