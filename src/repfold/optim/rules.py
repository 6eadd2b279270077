"""Rules: what the gradient of a folded weight is multiplied with, so that training it equals training its branches.

With W = Σ_i L_i(θ_i) + C, every L_i linear and constant, and J = [L_1 L_2 …] the Jacobian of the fold, a step of the
branches moves W as a step of W itself with J·Jᵀ applied to its gradient (RepOptimizer, arXiv:2205.15242, appendix A).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repfold.errors import RepFoldError

Kernel = tuple[Tensor, ...]  # a layer's weight [O, I/groups, *k] and, if it has one, its bias [O]


class OptimError(RepFoldError):
    """The network, the rules or the parameters do not fit each other."""


@dataclass(frozen=True)
class Branch:
    """One trained tensor θ_i of a region: its name in the branch network, and L_i with its transpose."""

    name: str
    shape: tuple[int, ...]
    forward: Callable[[Tensor], Kernel]  # θ-shaped to kernel-shaped
    transpose: Callable[[Kernel], Tensor]  # kernel-shaped to θ-shaped
    scale: Kernel | None  # L_i(1) where L_i only scales entries and puts them in places; else None


@dataclass(frozen=True)
class Rule:
    """The rule of one folded layer.

    ``mask``: the diagonal of J·Jᵀ, kernel-shaped, or None when J·Jᵀ is not diagonal and is applied as an operator.
    ``constant``: the part of the kernel that no branch trains; weight decay does not pull on it.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    names: tuple[str, ...]
    branches: tuple[Branch, ...]
    mask: Kernel | None
    constant: Kernel
    fingerprint: Kernel  # J·Jᵀ applied to a fixed random kernel: recognises the rule after a restart

    @property
    def kind(self) -> str:
        return "operator" if self.mask is None else "mask"

    def __call__(self, gradient: Kernel) -> Kernel:
        """J·Jᵀ applied to the gradient, in float64."""
        return apply_rule(self.branches, gradient)

    def describe(self) -> str:
        trained = ", ".join(branch.name for branch in self.branches)
        if self.mask is None:
            return f"{self.name}: operator from {trained}"
        low, high = float(self.mask[0].min()), float(self.mask[0].max())
        return f"{self.name}: mask {low:.4g} to {high:.4g} from {trained}"


@dataclass(frozen=True)
class Rules:
    """The rules of a network; iterate over them, or print them."""

    rules: tuple[Rule, ...]

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __str__(self) -> str:
        return "\n".join(rule.describe() for rule in self.rules)


def apply_rule(branches: tuple[Branch, ...], gradient: Kernel) -> Kernel:
    """Σ_i L_i L_iᵀ (G)."""
    moved = [branch.forward(branch.transpose(gradient)) for branch in branches]
    return tuple(torch.stack(parts).sum(0) for parts in zip(*moved, strict=True))


def probe(like: Kernel, seed: int) -> Kernel:
    """A fixed random kernel in float64 (the same on every machine)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in like)


def close(a: Kernel, b: Kernel, tolerance: float = 1e-9) -> bool:
    """Whether two kernels agree relative to their largest entry."""
    scale = max([float(part.abs().max()) for part in (*a, *b) if part.numel()] + [1e-300])
    return all(float((p - q).abs().max()) <= tolerance * scale for p, q in zip(a, b, strict=True) if p.numel())
