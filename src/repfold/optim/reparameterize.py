"""From a network with constant-scale branches to the plain network and its rules, read off the differentiable fold."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, fx, nn

from repfold.fold import FoldedRegion, Plan, make_plan
from repfold.fold.pieces import Apply, Sum
from repfold.fold.regions import Region
from repfold.fold.rewrite import rewrite
from repfold.fold.trace import Untraceable
from repfold.optim.rules import Branch, Kernel, OptimError, Rule, Rules, apply_rule, close, probe


def reparameterize(network: nn.Module, example: Any) -> tuple[fx.GraphModule, Rules]:
    """The plain network that starts at the branches' fold, and the rules under which training it trains the branches.

    Args:
        network: any network whose branches are sums of convolutions with constant scales (CSLA): convolutions, 1x1s,
            identities, average pools, strips, sequences with frozen parts; norms and activations after the sums. It is
            left untouched. What does not require a gradient is constant.
        example: an input as for ``repfold.fold``.

    Returns: the plain network in train mode, and its rules, to be given to ``RepSGD`` or ``RepAdamW``.

    Raises: OptimError for a BatchNorm inside a branch, a trainable scale on a trainable branch, a network without any
    region to re-parameterize or one that cannot be traced.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    doubled = tuple(_example(argument) for argument in arguments)
    twin = copy.deepcopy(network).double()
    _refuse_norms_in_branches(_plan(twin.eval(), doubled))
    plan = _plan(twin.train(), doubled)
    if not plan.regions:
        raise OptimError(
            f"{type(network).__name__} has no weight to re-parameterize: none of its layers is a sum of branches or "
            "has a constant scale. Give it branches first: repfold.expand(network, 'csla')."
        )
    rewritten = rewrite(plan)
    plain = rewritten.network
    rules = [_rule(plan, region, folded, plain) for region, folded in zip(plan.regions, rewritten.regions, strict=True)]
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    return plain.to(dtype).train(), Rules(tuple(rules))


def _plan(twin: nn.Module, arguments: tuple[Any, ...]) -> Plan:
    state = {name: tensor.clone() for name, tensor in twin.named_buffers()}
    try:
        plan = make_plan(twin, arguments)
    except Untraceable as error:
        raise OptimError(f"{type(twin).__name__} cannot be traced as a whole, so it has no rules: {error}") from error
    with torch.no_grad():  # running the trace in train mode moved the running statistics
        for name, tensor in twin.named_buffers():
            tensor.copy_(state[name])
    return plan


def _example(x: Any) -> Any:
    """In float64, and of two images at least: batch statistics need more than one value per channel."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    return (x if x.dim() < 2 or x.shape[0] > 1 else torch.cat([x, x])).double()


def _refuse_norms_in_branches(plan: Plan) -> None:
    for region in plan.regions:
        added = [node for node in region.interior if isinstance(plan.pieces[node], Sum)]
        for node in region.interior:
            piece = plan.pieces[node]
            followed = any(_reaches(node, later, region) for later in added)
            if isinstance(piece, Apply) and piece.is_norm and followed:
                raise OptimError(
                    f"{node.target if node.op == 'call_module' else node.name} is a BatchNorm inside a branch: its "
                    "statistics change with every batch, so no constant rule equals it. Put one norm after the sum and "
                    "a constant scale in the branch, as repfold.expand(network, 'csla') does."
                )


def _reaches(node: fx.Node, later: fx.Node, region: Region) -> bool:
    return node in later.all_input_nodes or any(
        _reaches(node, operand, region) for operand in later.all_input_nodes if operand in region.interior
    )


@dataclass(frozen=True)
class _Fold:
    """A region's kernel as a function of the twin's trained tensors."""

    region: Region
    trained: tuple[tuple[str, nn.Parameter], ...]

    def kernel(self) -> Kernel:
        conv = self.region.reading.build()
        return (conv.weight,) if conv.bias is None else (conv.weight, conv.bias)

    def at(self, values: dict[str, Tensor]) -> Kernel:
        """The kernel with the named tensors at ``values`` and all other trained ones at zero."""
        with torch.no_grad(), self._set(values):
            return tuple(part.clone() for part in self.kernel())

    @contextmanager
    def _set(self, values: dict[str, Tensor]) -> Iterator[None]:
        kept = [parameter.data for _, parameter in self.trained]
        try:
            for name, parameter in self.trained:
                parameter.data = values.get(name, torch.zeros_like(parameter.data))
            yield
        finally:
            for (_, parameter), data in zip(self.trained, kept, strict=True):
                parameter.data = data


def _rule(plan: Plan, region: Region, folded: FoldedRegion, plain: nn.Module) -> Rule:
    fold = _Fold(region, _trained_in(plan, region))
    layer = plain.get_submodule(folded.name)
    names = tuple(f"{folded.name}.{name}" for name, _ in layer.named_parameters())
    parameters = tuple(layer.parameters())
    if not fold.trained:
        raise OptimError(
            f"{folded.name}: nothing in this region requires a gradient. Unfreeze a branch, or fold it away."
        )
    _refuse_products(fold, folded.name)
    constant = fold.at({})
    branches = tuple(_branch(fold, name, parameter, constant) for name, parameter in fold.trained)
    ones = tuple(torch.ones_like(part) for part in constant)
    diagonal = apply_rule(branches, ones)
    g = probe(constant, 1)
    response = apply_rule(branches, g)
    is_diagonal = close(response, tuple(d * part for d, part in zip(diagonal, g, strict=True)))
    return Rule(
        name=folded.name,
        parameters=parameters,
        names=names,
        branches=branches,
        mask=diagonal if is_diagonal else None,
        constant=constant,
        fingerprint=response,
    )


def _trained_in(plan: Plan, region: Region) -> tuple[tuple[str, nn.Parameter], ...]:
    candidates = [(name, p) for name, p in plan.traced.root.named_parameters() if p.requires_grad]
    with torch.enable_grad():
        conv = region.reading.build()
        total = conv.weight.sum() if conv.bias is None else conv.weight.sum() + conv.bias.sum()
        if not total.requires_grad:
            return ()
        gradients = torch.autograd.grad(total, [p for _, p in candidates], allow_unused=True)
    return tuple(c for c, gradient in zip(candidates, gradients, strict=True) if gradient is not None)


def _refuse_products(fold: _Fold, name: str) -> None:
    """A product of trained tensors is no constant-scale branch: f(p, q) − f(p, 0) − f(0, q) + f(0, 0) must vanish."""
    values = {key: probe((p,), seed)[0] for seed, (key, p) in enumerate(fold.trained)}
    zero = fold.at({})
    alone = {key: fold.at({key: values[key]}) for key in values}
    together = fold.at(values)
    summed = tuple(
        z + sum(parts[i] - z for parts in alone.values())
        for i, z in enumerate(zero)  # type: ignore[misc]
    )
    for key in values:
        twice = fold.at({key: 2 * values[key]})
        if not close(twice, tuple(2 * a - z for a, z in zip(alone[key], zero, strict=True))):
            raise OptimError(
                f"{name}: its kernel is not linear in {key} (a norm of the weight?), so no constant rule exists."
            )
    if close(together, summed):
        return
    for p, q in combinations(values, 2):
        both = fold.at({p: values[p], q: values[q]})
        if not close(both, tuple(a + b - z for a, b, z in zip(alone[p], alone[q], zero, strict=True))):
            small, large = sorted((p, q), key=lambda key: values[key].numel())
            raise OptimError(
                f"{name}: {small} scales {large} and both are trained, so the branch's scale is not constant. Freeze "
                f"one (parameter.requires_grad_(False)), usually {small}, or search it first with the hyper-search network."
            )
    raise OptimError(
        f"{name}: its kernel is a product of three or more trained tensors. Freeze all but one of each branch."
    )


def _branch(fold: _Fold, name: str, parameter: nn.Parameter, constant: Kernel) -> Branch:
    def forward(value: Tensor) -> Kernel:
        moved = fold.at({name: value.to("cpu", torch.float64)})
        return tuple((m - c).to(value.device) for m, c in zip(moved, constant, strict=True))

    def transpose(gradient: Kernel) -> Tensor:
        device = gradient[0].device
        with torch.enable_grad(), fold._set({}):
            kernel = fold.kernel()
            given = [part.to("cpu", torch.float64) for part in gradient]
            pairs = [(k, g) for k, g in zip(kernel, given, strict=True) if k.requires_grad]
            (found,) = torch.autograd.grad([k for k, _ in pairs], parameter, [g for _, g in pairs])
        return found.to(device)

    return Branch(name, tuple(parameter.shape), forward, transpose, _scale(forward, parameter))


def _scale(forward: Any, parameter: Tensor) -> Kernel | None:
    """L(1), if L only scales entries and puts them in places: then (L v)² = L(1) · L(v²) for every v."""
    (v,) = probe((parameter,), 2)
    ones = forward(torch.ones_like(v))
    squares = tuple(part * part for part in forward(v))
    products = tuple(a * b for a, b in zip(ones, forward(v * v), strict=True))
    return ones if close(squares, products) else None
