"""Optimizers by name, as recipes write them; PyTorch is loaded only to make one.

``sgd``, ``adam:beta2=0.98``, ``rmsprop:alpha=0.9,eps=0.001``: what is not given is the recipe's ``momentum`` and
``nesterov``, or usual.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from repfold import specs
from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from repfold.optim import Rules

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class Algorithm:
    """An optimization algorithm, ``torch_name`` in torch.optim, and its options.

    ``usual_lr``: the base learning rates that are not surely a mistake; ``values_per_weight``: how many values its
    state holds of each weight; ``can_fuse``: whether it has one kernel for a whole step.

    Raises: RepFoldError for options that are not finite or below 0, and shares of 1 and more.
    """

    torch_name: ClassVar[str]
    usual_lr: ClassVar[tuple[float, float]]
    values_per_weight: ClassVar[int] = 2
    can_fuse: ClassVar[bool] = False
    shares: ClassVar[tuple[str, ...]] = ("momentum", "beta2", "alpha", "rho")

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            high = 1.0 if field.name in self.shares else math.inf
            if not isinstance(value, bool) and not 0 <= value < high:
                range_ = "in [0, 1)" if high == 1 else "at least 0 and finite"
                raise RepFoldError(f"The optimizer's {field.name} is {value}; it must be {range_}.")

    def options(self) -> dict[str, Any]:
        """The keyword arguments of the optimizer in ``torch.optim``."""
        return dict(vars(self))

    def make(self, groups: Groups, lr: float, *, fused: bool, rules: Rules | None = None) -> Optimizer:
        """Return the optimizer of parameter ``groups``.

        Args:
            fused: update all parameters with one kernel, if the algorithm has it.
            rules: what gradients are re-parameterized by, if they are.

        Raises: RepFoldError for rules with an algorithm that has none.
        """
        from torch import optim

        from repfold.optim import RepAdamW, RepSGD

        options = self.options() | ({"fused": fused} if self.can_fuse else {})
        if rules is None:
            optimizer: Optimizer = getattr(optim, self.torch_name)(groups, lr=lr, **options)
            return optimizer
        ruled: dict[type, Callable[..., Optimizer]] = {Sgd: RepSGD, AdamW: RepAdamW}
        if type(self) not in ruled:
            known = " or ".join(kind.__name__.lower() for kind in ruled)
            raise RepFoldError(
                f"gradient re-parameterization has rules for {known}, not for {type(self).__name__.lower()}: set the "
                "optimizer to one of these."
            )
        return ruled[type(self)](groups, rules=rules, lr=lr, **options)


@dataclass(frozen=True)
class Sgd(Algorithm):
    """Gradient descent with momentum: the best final accuracy of most convnets."""

    torch_name = "SGD"
    usual_lr = (1e-4, 10.0)
    values_per_weight = 1
    can_fuse = True
    momentum: float = 0.9
    nesterov: bool = False
    dampening: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not (self.momentum > 0 and self.dampening == 0):
            raise RepFoldError("nesterov needs momentum above 0 and no dampening.")


@dataclass(frozen=True)
class RmsProp(Algorithm):
    """Gradients divided by a running root of their mean square, with momentum on top."""

    torch_name = "RMSprop"
    usual_lr = (1e-6, 0.05)
    momentum: float = 0.9
    alpha: float = 0.99
    eps: float = 1e-8
    centered: bool = False


@dataclass(frozen=True)
class Adam(Algorithm):
    """Adam with coupled L2 decay; ``momentum`` is its beta1."""

    torch_name = "Adam"
    usual_lr = (1e-6, 0.03)
    can_fuse = True
    momentum: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    amsgrad: bool = False

    def options(self) -> dict[str, Any]:
        """The keyword arguments of the optimizer in ``torch.optim``."""
        return {"betas": (self.momentum, self.beta2), "eps": self.eps, "amsgrad": self.amsgrad}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose decay acts on the weights and not through the gradient."""

    torch_name = "AdamW"


@dataclass(frozen=True)
class AdaDelta(Algorithm):
    """Steps in the units of the weights: its learning rate is a factor, 1 as published."""

    torch_name = "Adadelta"
    usual_lr = (0.05, 10.0)
    rho: float = 0.9
    eps: float = 1e-6


OPTIMIZERS: dict[str, Callable[..., Algorithm]] = {
    "adadelta": AdaDelta,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RmsProp,
    "sgd": Sgd,
}


def parse(text: str, *, momentum: float = 0.9, nesterov: bool = False) -> Algorithm:
    """Return the algorithm that ``text`` names; ``momentum`` and ``nesterov`` are for those that take them.

    Raises: RepFoldError for an unknown name or option, with the nearest match, for values out of range, and for
        ``nesterov`` with an algorithm other than sgd.
    """
    given = {"momentum": momentum, "nesterov": nesterov}
    algorithm = specs.parse(text, "optimizer", OPTIMIZERS, given=given)
    if nesterov and not isinstance(algorithm, Sgd):
        raise RepFoldError("nesterov is momentum of sgd: set optimizer to sgd and momentum above 0, or leave it.")
    return algorithm


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights are updated.

    Attributes:
        weight_decay: of kernels; with ``custom_l2`` those of RepVGG blocks are decayed through a penalty instead.
        max_norm: the longest that a convolution's filter may be after an update; 0: no limit.
        lookahead: updates between two of Lookahead's slow weights, which go ``lookahead_alpha`` of the way; 0: off.
    """

    algorithm: Algorithm
    weight_decay: float
    custom_l2: bool
    max_norm: float
    lookahead: int
    lookahead_alpha: float
