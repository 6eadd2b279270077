"""From a network with constant-scale branches to the plain network and its rules, read off the differentiable fold."""

from __future__ import annotations

import torch
from torch import fx, nn

from repfold.fold import FoldedRegion, Plan, make_plan
from repfold.fold.branch_norms import norm_in_branch
from repfold.fold.parts import build
from repfold.fold.rewrite import rewrite
from repfold.graph.record import NotFollowed
from repfold.optim.compact import compact
from repfold.optim.linearity import Probes, branches_of, couples, fingerprint, refuse_products
from repfold.optim.operators import FoldOperator, Twin, trained_in, twin_of
from repfold.optim.rules import OptimError, Rule, Rules


def reparameterize(network: nn.Module, example: object) -> tuple[fx.GraphModule, Rules]:
    """The plain network that starts at the branches' fold, and the rules under which training it trains the branches.

    Args:
        network: any network whose branches are sums of convolutions with constant scales (CSLA): convolutions, 1x1s,
            identities, average pools, strips, sequences with frozen parts; norms and activations after the sums. It is
            left untouched. What does not require a gradient is constant.
        example: an input as for ``repfold.fold``.

    Returns: the plain network in train mode, and its rules, to be given to ``RepSGD`` or ``RepAdamW``. Its parameters
    keep the network's device, and the dtype of its first one.

    Raises: OptimError for a BatchNorm inside a branch, a trainable scale on a trainable branch, a branch whose weight
    is shared, values that are not finite, a network without any region to re-parameterize or that cannot be followed.
    """
    _refuse_not_finite(network)
    twin = twin_of(network, example if isinstance(example, tuple) else (example,))
    try:
        plan = twin.plan
        _refuse_norms_in_branches(twin, plan)
    except NotFollowed as error:
        raise OptimError(
            f"{type(network).__name__} cannot be followed as a whole, so it has no rules: {error}"
        ) from error
    if not plan.regions:
        _refuse_reused(make_plan(twin.network, twin.arguments, "always"), set())
        raise OptimError(
            f"{type(network).__name__} has no weight to re-parameterize: none of its layers is a sum of branches or "
            "has a constant scale. Give it branches first: repfold.expand(network, 'csla')."
        )
    rewritten = rewrite(plan)
    plain = build(plan.recorded, rewritten, (), twin.network)
    _refuse_shared(plan, plain, {region.name for region in rewritten.regions})
    rules = [_rule(twin, number, folded, plain) for number, folded in enumerate(rewritten.regions)]
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    return plain.to(like.device, like.dtype).train(), Rules(tuple(rules))


def _rule(twin: Twin, number: int, folded: FoldedRegion, plain: nn.Module) -> Rule:
    layer = plain.get_submodule(folded.name)
    operator = FoldOperator(twin, number, trained_in(twin.plan, twin.plan.regions[number]))
    if not operator.trained:
        raise OptimError(
            f"{folded.name}: nothing in this region requires a gradient. Unfreeze a branch, or fold it away first."
        )
    probes = Probes(operator)
    refuse_products(probes, folded.name)
    branches = branches_of(probes)
    only_scales = all(branch.scale is not None for branch in branches)
    return Rule(
        name=folded.name,
        parameters=tuple(layer.parameters()),
        names=tuple(f"{folded.name}.{name}" for name, _ in layer.named_parameters()),
        branches=branches,
        constant=tuple(map(compact, operator.constant)),
        operator=None if only_scales else operator,
        couples=not only_scales and couples(probes),
        fingerprint=fingerprint(probes),
    )


def _refuse_not_finite(network: nn.Module) -> None:
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise OptimError(
                f"{name} holds values that are not finite. Give the branches finite scales, and load the weights again."
            )


def _refuse_norms_in_branches(twin: Twin, plan: Plan) -> None:
    evaluated = Twin(twin.network.eval(), twin.arguments).plan
    twin.network.train()
    norm = norm_in_branch(plan, evaluated)
    if norm is not None:
        raise OptimError(
            f"{norm} is a BatchNorm inside a branch: its statistics change with every batch, so no constant rule "
            "equals it. Put one norm after the sum and a constant scale in the branch, as repfold.expand(network, "
            "'csla') does."
        )


def _refuse_shared(plan: Plan, plain: nn.Module, folded: set[str]) -> None:
    """A tensor that two layers share is pulled by both their gradients, so neither has a rule of its own."""
    kept = {name for name, _ in plain.named_parameters(remove_duplicate=False) if name.rpartition(".")[0] not in folded}
    _refuse_reused(plan, kept)


def _refuse_reused(plan: Plan, kept: set[str]) -> None:
    """Raises: OptimError for a parameter of two regions, or of one and a layer that is kept."""
    seen: set[str] = set()
    for region in plan.regions:
        for name in trained_in(plan, region):
            if name in seen or name in kept:
                raise OptimError(
                    f"{name} is used in more than one layer, so the plain network's layers would not be independent. "
                    "Give every branch a weight of its own."
                )
            seen.add(name)
