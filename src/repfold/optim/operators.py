"""The linear maps L_i of a folded region, read off its differentiable fold: forward and transposed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from repfold.fold import Plan, make_plan
from repfold.fold.pieces import Apply
from repfold.fold.regions import Region

Kernel = tuple[Tensor, ...]  # a layer's weight [O, I/groups, *k] and, if it has one, its bias [O]


@dataclass(frozen=True)
class Twin:
    """A private copy of the branch network, in float64 and train mode, and an example to record it with.

    It can be pickled: the recording, which cannot, is made again.
    """

    network: nn.Module
    arguments: tuple[Any, ...]

    @cached_property
    def plan(self) -> Plan:
        """The graph and its regions. Raises: NotFollowed when forward's Python cannot be followed."""
        return make_plan(self.network, self.arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {"network": self.network, "arguments": self.arguments}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Twin:
        return self  # what the rules read of it never changes


@dataclass(frozen=True)
class FoldOperator:
    """W(θ) = Σ_i L_i(θ_i) + C of region number ``region``, as a function of the tensors named ``trained``."""

    twin: Twin
    region: int
    trained: tuple[str, ...]

    def kernel(self, values: Mapping[str, Tensor]) -> Kernel:
        """W with the named tensors at ``values`` and all other trained ones at zero."""
        state = self.twin.plan.recorded.state
        zeros = {name: torch.zeros_like(state[name], requires_grad=False) for name in self.trained}
        conv = self.twin.plan.regions[self.region].reading.build({**state, **zeros, **values}, torch.float64)
        return (conv.weight,) if conv.bias is None else (conv.weight, conv.bias)

    @cached_property
    def constant(self) -> Kernel:
        """C."""
        return tuple(part.detach() for part in self.kernel({}))

    def forward(self, values: Mapping[str, Tensor]) -> Kernel:
        """Σ_i L_i(v_i) over the named ``values``, in float64."""
        device = next(iter(values.values())).device
        with torch.no_grad():
            moved = self.kernel({name: value.to("cpu", torch.float64) for name, value in values.items()})
        return tuple((part - fixed).to(device) for part, fixed in zip(moved, self.constant, strict=True))

    def transpose(self, gradient: Kernel) -> dict[str, Tensor]:
        """L_iᵀ(G) for every trained tensor, by its name, in float64."""
        state = self.twin.plan.recorded.state
        zeros = {name: torch.zeros_like(state[name], requires_grad=False) for name in self.trained}
        pull_back = torch.func.vjp(self.kernel, zeros)[1]
        (found,) = pull_back(tuple(part.to("cpu", torch.float64) for part in gradient))
        return {name: found[name].to(gradient[0].device) for name in self.trained}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a trained tensor."""
        return tuple(self.twin.plan.recorded.state[name].shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"twin": self.twin, "region": self.region, "trained": self.trained}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def twin_of(network: nn.Module, arguments: tuple[object, ...]) -> Twin:
    """A twin on the CPU (not every accelerator has float64), with examples of two images at least."""
    return Twin(copy.deepcopy(network).cpu().double().train(), tuple(_example(argument) for argument in arguments))


def trained_in(plan: Plan, region: Region) -> tuple[str, ...]:
    """The names of the parameters that the region's kernel is computed from and that require a gradient."""
    state = plan.recorded.state
    pieces = [plan.pieces[value] for value in region.interior]
    constants = [constant for piece in pieces if isinstance(piece, Apply) for constant in piece.constants]
    named = [value["path"] for value in plan.constants.state_of(constants) if state[value["path"]].requires_grad]
    reached = [name for name in named if plan.constants.trains(constants, {**_frozen(state), name: state[name]})]
    order = {name: i for i, (name, _) in enumerate(plan.recorded.copy.named_parameters())}
    return tuple(sorted(reached, key=lambda name: order.get(name, len(order))))


def _frozen(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in state.items()}


def _example(x: object) -> Any:
    """In float64, and of two images at least: batch statistics need more than one value per channel."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    x = x.detach().cpu()
    return (x if x.dim() < 2 or x.shape[0] > 1 else torch.cat([x, x])).double()
