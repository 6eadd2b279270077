"""Probing a region's fold: that it is linear in every trained tensor, and what kind of map each of them has.

Maps are probed with fixed random tensors. An equation that holds for these holds for every tensor, except on a set of
networks of measure zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, reduce
from itertools import combinations

import torch
from torch import Tensor

from repfold.optim.compact import compact
from repfold.optim.operators import FoldOperator, Kernel
from repfold.optim.rules import Branch, OptimError, close


class Probes:
    """Images of random tensors under ``operator``, float64, the same on every machine."""

    def __init__(self, operator: FoldOperator) -> None:
        self.operator = operator
        self.values = {name: _random(operator.shape(name), seed) for seed, name in enumerate(operator.trained)}

    @cached_property
    def gradient(self) -> Kernel:
        """g: a random gradient of the folded kernel, and of its bias where there is one."""
        return tuple(_random(tuple(part.shape), 1000 + i) for i, part in enumerate(self.operator.constant))

    @cached_property
    def moved(self) -> dict[str, Kernel]:
        """L_i(v_i) for every trained tensor."""
        return {name: self.operator.forward({name: value}) for name, value in self.values.items()}

    @cached_property
    def factors(self) -> dict[str, Kernel]:
        """L_i(1)."""
        return {name: self.operator.forward({name: torch.ones_like(v)}) for name, v in self.values.items()}

    @cached_property
    def images(self) -> dict[str, Kernel]:
        """L_i L_iᵀ (g)."""
        return {n: self.operator.forward({n: v}) for n, v in self.operator.transpose(self.gradient).items()}


def refuse_products(probes: Probes, layer: str) -> None:
    """Raises: OptimError when the kernel is not linear in a trained tensor, or holds a product of two."""
    operator, alone = probes.operator, probes.moved
    for name, value in probes.values.items():
        if not close(operator.forward({name: value - 2}), _plus(alone[name], probes.factors[name], -2.0)):
            raise OptimError(
                f"{layer}: its kernel is not linear in {name} (a norm of the weight, say), so no constant rule exists. "
                "Train this network as it is, under torch.optim."
            )
    if close(operator.forward(probes.values), _total(alone.values())):
        return
    for p, q in combinations(probes.values, 2):
        both = operator.forward({p: probes.values[p], q: probes.values[q]})
        if not close(both, _plus(alone[p], alone[q], 1.0)):
            small, large = sorted((p, q), key=lambda name: probes.values[name].numel())
            raise OptimError(
                f"{layer}: {small} scales {large} and both are trained, so the branch's scale is not constant. Freeze "
                f"one (parameter.requires_grad_(False)), usually {small}, or search it first with the hyper-search "
                "network."
            )
    raise OptimError(
        f"{layer}: its kernel is a product of three or more trained tensors. Freeze all but one of each branch."
    )


def branches_of(probes: Probes) -> tuple[Branch, ...]:
    """The region's branches, with their factors where their maps are no more than that.

    A row of L has at most one entry if (L v)² = L(1)·L(v²) for every v; a column too if then also L Lᵀ = L(1)².
    """
    operator = probes.operator
    branches = []
    for name, value in probes.values.items():
        moved, factors = probes.moved[name], probes.factors[name]
        rows = close(_times(moved, moved), _times(factors, operator.forward({name: value * value})))
        columns = rows and close(probes.images[name], _times(_times(factors, factors), probes.gradient))
        branches.append(Branch(name, operator.shape(name), tuple(map(compact, factors)) if columns else None))
    return tuple(branches)


def couples(probes: Probes) -> bool:
    """Whether J·Jᵀ takes the gradient of the weight into the bias."""
    if len(probes.gradient) == 1:
        return False
    weight, bias = probes.gradient
    operator = probes.operator
    return bool(operator.forward(operator.transpose((weight, torch.zeros_like(bias))))[1].any())


def fingerprint(probes: Probes) -> Kernel:
    """Σ_i i·|L_i L_iᵀ (g)|, summed over the input channels: small, and different for other scales."""
    weighed = [tuple(i * part.abs() for part in image) for i, image in enumerate(probes.images.values(), start=1)]
    return tuple(part.sum(1) if part.dim() > 1 else part for part in _total(weighed))


def _random(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _times(a: Kernel, b: Kernel) -> Kernel:
    return tuple(p * q for p, q in zip(a, b, strict=True))


def _plus(a: Kernel, b: Kernel, factor: float) -> Kernel:
    return tuple(p + factor * q for p, q in zip(a, b, strict=True))


def _total(kernels: Iterable[Kernel]) -> Kernel:
    return tuple(reduce(torch.add, parts) for parts in zip(*kernels, strict=True))
