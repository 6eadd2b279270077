"""Optimizers by name, as recipes tell them; PyTorch is loaded only to make one.

``sgd``, ``adam:beta2=0.98``, ``rmsprop:alpha=0.9,eps=0.001``: what is not told is the recipe's ``momentum`` and
``nesterov``, or usual.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from repfold import notation
from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from torch.optim import Optimizer

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class OptimizerChoice(ABC):
    """An optimizer and its options. ``usual_lr``: the base learning rates that are not surely a mistake.

    Raises: RepFoldError for options that are not finite or below 0, and shares of 1 and more.
    """

    usual_lr: ClassVar[tuple[float, float]]
    shares: ClassVar[tuple[str, ...]] = ("momentum", "beta2", "alpha", "rho")

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            high = 1.0 if field.name in self.shares else math.inf
            if not isinstance(value, bool) and not 0 <= value < high:
                range_ = "in [0, 1)" if high == 1 else "at least 0 and finite"
                raise RepFoldError(f"The optimizer's {field.name} is {value}; it must be {range_}.")

    @abstractmethod
    def make(self, groups: Groups, lr: float, *, fused: bool) -> Optimizer:
        """Return the optimizer of parameter ``groups``; ``fused``: one kernel a step, for those that have it."""


@dataclass(frozen=True)
class Sgd(OptimizerChoice):
    """Gradient descent with momentum: the best final accuracy of most convnets."""

    usual_lr = (1e-4, 10.0)
    momentum: float = 0.9
    nesterov: bool = False
    dampening: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not (self.momentum > 0 and self.dampening == 0):
            raise RepFoldError("nesterov needs momentum above 0 and no dampening.")

    def make(self, groups: Groups, lr: float, *, fused: bool) -> Optimizer:
        from torch.optim import SGD

        return SGD(groups, lr, self.momentum, self.dampening, nesterov=self.nesterov, fused=fused)


@dataclass(frozen=True)
class RmsProp(OptimizerChoice):
    """Gradients divided by a running root of their mean square, with momentum on top."""

    usual_lr = (1e-6, 0.05)
    momentum: float = 0.9
    alpha: float = 0.99
    eps: float = 1e-8
    centered: bool = False

    def make(self, groups: Groups, lr: float, *, fused: bool) -> Optimizer:
        from torch.optim import RMSprop

        return RMSprop(groups, lr, self.alpha, self.eps, momentum=self.momentum, centered=self.centered)


@dataclass(frozen=True)
class Adam(OptimizerChoice):
    """Adam with coupled L2 decay; ``momentum`` is its beta1."""

    usual_lr = (1e-6, 0.03)
    momentum: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    amsgrad: bool = False

    def make(self, groups: Groups, lr: float, *, fused: bool) -> Optimizer:
        from torch import optim

        return optim.Adam(groups, lr, (self.momentum, self.beta2), self.eps, amsgrad=self.amsgrad, fused=fused)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose decay acts on the weights and not through the gradient."""

    def make(self, groups: Groups, lr: float, *, fused: bool) -> Optimizer:
        from torch import optim

        return optim.AdamW(groups, lr, (self.momentum, self.beta2), self.eps, amsgrad=self.amsgrad, fused=fused)


@dataclass(frozen=True)
class AdaDelta(OptimizerChoice):
    """Steps in the units of the weights: its learning rate is a factor, 1 as published."""

    usual_lr = (0.05, 10.0)
    rho: float = 0.9
    eps: float = 1e-6

    def make(self, groups: Groups, lr: float, *, fused: bool) -> Optimizer:
        from torch.optim import Adadelta

        return Adadelta(groups, lr, rho=self.rho, eps=self.eps)


OPTIMIZERS: dict[str, Callable[..., OptimizerChoice]] = {
    "adadelta": AdaDelta,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RmsProp,
    "sgd": Sgd,
}


def parse(text: str, *, momentum: float = 0.9, nesterov: bool = False) -> OptimizerChoice:
    """Return the optimizer that ``text`` names; ``momentum`` and ``nesterov`` are for those that take them.

    Raises: RepFoldError for an unknown name or option, with the nearest match, and for values out of range.
    """
    given = {"momentum": momentum, "nesterov": nesterov}
    return notation.read(text, "optimizer", OPTIMIZERS, given=given)
