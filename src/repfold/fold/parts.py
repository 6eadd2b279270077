"""Folding a module whole, or part by part where its forward cannot be followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from repfold.counted import counted
from repfold.fold.certificate import FoldedRegion
from repfold.fold.compare import in_float64, refuse_if_it_differs_from_itself
from repfold.fold.errors import FoldError
from repfold.fold.folded import Folded
from repfold.fold.left import explain
from repfold.fold.plan import plan_graph
from repfold.fold.rewrite import Rewritten, rewrite
from repfold.fold.siblings import join_siblings
from repfold.fold.trials import Proof, prove
from repfold.graph.copying import copies, private_copy
from repfold.graph.graph import Check
from repfold.graph.module import to_module
from repfold.graph.naming import parameter_names
from repfold.graph.record import NotFollowed, Recorded, record

UNFOLLOWED = "its forward cannot be followed as a whole ({})"
SEEN_INTO = "the module around it uses more of it than its output"
ENOUGH = 0.8  # of the regions; fewer are not worth the sizes that they would leave free


def fold_proved(
    module: nn.Module,
    original: nn.Module,
    arguments: tuple[object, ...],
    policy: str,
    path: str = "",
    progress: Callable[[str], None] = lambda stage: None,
) -> tuple[Folded, nn.Module, Proof]:
    """The folded module, proved against ``module``; part by part where it would otherwise take fewer sizes.

    Raises: FoldError when the two differ, or ``module`` from itself.
    """
    expected = refuse_if_it_differs_from_itself(module, arguments)
    progress("recording its forward")
    with torch.no_grad():
        folded = fold_module(module, original, arguments, policy, path, progress)
        progress("comparing both on other sizes")
        plain, proof = prove(module, folded, arguments, expected)
        if not proof.bound or folded.by_parts is None:
            return folded, plain, proof
        parts = folded.by_parts()
        if len(parts.regions) < ENOUGH * len(folded.regions):
            return folded, plain, proof
        try:
            freer, freely = prove(module, parts, arguments, expected)
        except FoldError:  # the whole is proved, for the sizes that it takes
            return folded, plain, proof
    return (parts, freer, freely) if not freely.bound else (folded, plain, proof)


def fold_module(
    module: nn.Module,
    original: nn.Module,
    arguments: tuple[object, ...],
    policy: str,
    path: str = "",
    progress: Callable[[str], None] = lambda stage: None,
) -> Folded:
    """Fold ``module``, a private copy of ``original``, which stands at ``path`` in the network.

    Raises: FoldError when a region does not prove exact.
    """
    try:
        recorded = record(original, arguments)
    except NotFollowed as refusal:
        return _fold_children(module, original, arguments, policy, path, UNFOLLOWED.format(refusal))
    plan = plan_graph(recorded, policy)
    rewritten = rewrite(plan, lambda count, of: progress(f"folding {count} of {counted(of, 'region')}"))
    left = [(_join(path, name), reason) for name, reason in explain(plan)]
    regions = [_renamed(region, path) for region in rewritten.regions]

    def by_parts() -> Folded:
        reason = UNFOLLOWED.format("followed as a whole it fixes sizes, which the network does not")
        return _fold_children(module, original, arguments, policy, path, reason)

    checks = rewritten.graph.checks
    return Folded(
        build=lambda needed: build(recorded, rewritten, needed, original),
        refold=lambda twin: _alike(regions, fold_module(twin, twin, in_float64(arguments), policy, path)),
        regions=regions,
        left=left,
        fixed=tuple(check for check in checks if check.fixes),
        checks=tuple(check for check in checks if not check.fixes),
        remarks=list(recorded.remarks),
        by_parts=by_parts if any(original.children()) else None,
    )


def build(recorded: Recorded, rewritten: Rewritten, checks: tuple[Check, ...], original: nn.Module) -> Any:
    """The folded graph as a module whose tensors are its own."""
    graph = replace(rewritten.graph, checks=checks)
    ours = recorded.rewritten(graph, _own(rewritten.state))
    return to_module(
        graph,
        ours.state,
        arguments=ours.arguments,
        output=ours.output,
        copy=recorded.copy,
        name=type(original).__name__,
        parameter_names=parameter_names(original, len(ours.arguments)),
    )


def _own(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies, of which those that were one tensor are one again, and those that were frozen are frozen."""
    memo: dict[int, torch.Tensor] = {}
    for tensor in state.values():
        if id(tensor) not in memo:
            copy = tensor.detach().clone()
            memo[id(tensor)] = (
                nn.Parameter(copy, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy
            )
    return {path: memo[id(tensor)] for path, tensor in state.items()}


def _fold_children(
    module: nn.Module, original: nn.Module, arguments: tuple[object, ...], policy: str, path: str, reason: str
) -> Folded:
    """A copy of ``module`` with every child folded that was called, whose replacement changes nothing."""
    calls = _record_calls(private_copy(original), arguments)
    result = private_copy(original)
    regions: list[FoldedRegion] = []
    left = [(path or type(original).__name__, f"{reason}; folded part by part")]
    remarks: list[str] = []
    for name in _called_descendants(result, calls):
        part = original.get_submodule(name)
        try:
            folded, plain, _ = fold_proved(private_copy(part), part, calls[name], policy, _join(path, name))
        except FoldError as refusal:
            left.append((_join(path, name), str(refusal)))
            continue
        if folded.regions:
            result.set_submodule(name, plain)
            if not _runs(result, arguments):
                folded = _within(part, calls[name], policy, _join(path, name))
                result.set_submodule(name, folded.build(()))
            regions += folded.regions
            remarks += folded.remarks
        left += folded.left
    joined = join_siblings(result, arguments, policy)
    regions += [_renamed(region, path) for region in joined.regions]
    return Folded(
        build=lambda needed: private_copy(result),
        refold=lambda twin: _alike(regions, _fold_children(twin, twin, in_float64(arguments), policy, path, reason)),
        regions=regions,
        left=left,
        remarks=[*remarks, *joined.remarks],
    )


def _alike(regions: list[FoldedRegion], twin: Folded) -> nn.Module:
    """The folded float64 twin.

    Raises: FoldError when it is folded in other regions, and so proves nothing of these.
    """
    here, there = (Counter(region.modules for region in found) for found in (regions, twin.regions))
    if here != there:
        other = next(iter((here - there) + (there - here)))
        raise FoldError(f"in float64 other regions are folded, such as {' + '.join(other)} in one of the two alone")
    return twin.build(())


def _within(part: nn.Module, arguments: tuple[object, ...], policy: str, path: str) -> Folded:
    """The part with its children folded, since the module around it uses more of it than its output."""
    try:
        folded = _fold_children(private_copy(part), part, arguments, policy, path, SEEN_INTO)
        expected = refuse_if_it_differs_from_itself(private_copy(part), arguments)
        plain, _ = prove(private_copy(part), folded, arguments, expected)
    except FoldError as refusal:
        return Folded(lambda needed: part, lambda twin: twin, [], [(path, f"{SEEN_INTO}; {refusal}")])
    return replace(folded, build=lambda needed: plain)


def _record_calls(module: nn.Module, arguments: tuple[object, ...]) -> dict[str, tuple[Any, ...]]:
    """For every submodule that is called with positional arguments alone: those of its first call."""
    calls: dict[str, tuple[Any, ...]] = {}
    for name, child in module.named_modules():
        if name and not isinstance(child, torch.jit.ScriptModule):

            def note(_: nn.Module, given: tuple[object, ...], keywords: dict[str, Any], name: str = name) -> None:
                if not keywords and name not in calls:
                    calls[name] = copies(given)

            child.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        module(*copies(arguments))
    return calls


def _called_descendants(module: nn.Module, calls: dict[str, tuple[Any, ...]]) -> list[str]:
    """Paths of the outermost called modules below ``module``; a container that is not called is searched through."""
    found: list[str] = []
    for name, child in module.named_children():
        if name in calls:
            found.append(name)
        else:
            below = {key.removeprefix(f"{name}."): value for key, value in calls.items() if key.startswith(f"{name}.")}
            found += [f"{name}.{inner}" for inner in _called_descendants(child, below)]
    return found


def _runs(network: nn.Module, arguments: tuple[object, ...]) -> bool:
    """Whether the network still runs with the part replaced; its outputs are compared at the end."""
    try:
        network(*copies(arguments))
    except Exception:  # an attribute of the child that the parent reads and a folded one lacks
        return False
    return True


def _renamed(region: FoldedRegion, path: str) -> FoldedRegion:
    """The region under the names that its modules have in the whole network."""
    return replace(
        region, name=_join(path, region.name), modules=tuple(_join(path, module) for module in region.modules)
    )


def _join(path: str, name: str) -> str:
    return ".".join(part for part in (path, name) if part)
