"""The linear maps L_i of a folded region, read off its differentiable fold: forward and transposed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from repfold.fold import Plan, make_plan
from repfold.fold.regions import Region

Kernel = tuple[Tensor, ...]  # a layer's weight [O, I/groups, *k] and, if it has one, its bias [O]


@dataclass(frozen=True)
class Twin:
    """A private copy of the branch network, in float64 and train mode, and an example to trace it with.

    It can be pickled: the trace, which cannot, is made again.
    """

    network: nn.Module
    arguments: tuple[Any, ...]

    @cached_property
    def plan(self) -> Plan:
        """The trace and its regions. Raises: Untraceable when forward's Python cannot be followed."""
        buffers = {name: tensor.clone() for name, tensor in self.network.named_buffers()}
        plan = make_plan(self.network, self.arguments)
        with torch.no_grad():  # running the trace in train mode moved the running statistics
            for name, tensor in self.network.named_buffers():
                tensor.copy_(buffers[name])
        return plan

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
        with torch.enable_grad(), self._set(values):
            return tuple(part.detach().clone() for part in self._build())

    @cached_property
    def constant(self) -> Kernel:
        """C."""
        return self.kernel({})

    def forward(self, values: Mapping[str, Tensor]) -> Kernel:
        """Σ_i L_i(v_i) over the named ``values``, in float64."""
        device = next(iter(values.values())).device
        moved = self.kernel({name: value.to("cpu", torch.float64) for name, value in values.items()})
        return tuple((part - fixed).to(device) for part, fixed in zip(moved, self.constant, strict=True))

    def transpose(self, gradient: Kernel) -> dict[str, Tensor]:
        """L_iᵀ(G) for every trained tensor, by its name, in float64."""
        with torch.enable_grad(), self._set({}):
            pairs = zip(self._build(), gradient, strict=True)
            parts, given = zip(*[(k, g.to("cpu", torch.float64)) for k, g in pairs if k.requires_grad], strict=True)
            found = torch.autograd.grad(parts, [self._parameters[name] for name in self.trained], given)
        return {name: part.to(gradient[0].device) for name, part in zip(self.trained, found, strict=True)}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a trained tensor."""
        return tuple(self._parameters[name].shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"twin": self.twin, "region": self.region, "trained": self.trained}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _build(self) -> Kernel:
        conv = self.twin.plan.regions[self.region].reading.build()
        return (conv.weight,) if conv.bias is None else (conv.weight, conv.bias)

    @cached_property
    def _parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.twin.network.named_parameters())

    @contextmanager
    def _set(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        kept = {name: self._parameters[name].data for name in self.trained}
        try:
            for name, data in kept.items():
                self._parameters[name].data = values[name] if name in values else torch.zeros_like(data)
            yield
        finally:
            for name, data in kept.items():
                self._parameters[name].data = data


def twin_of(network: nn.Module, arguments: tuple[Any, ...]) -> Twin:
    """A twin on the CPU (not every accelerator has float64), with examples of two images at least."""
    return Twin(copy.deepcopy(network).cpu().double().train(), tuple(_example(argument) for argument in arguments))


def trained_in(plan: Plan, region: Region) -> tuple[str, ...]:
    """The names of the parameters that the region's kernel is computed from and that require a gradient."""
    candidates = [(name, p) for name, p in plan.traced.root.named_parameters() if p.requires_grad]
    with torch.enable_grad():
        conv = region.reading.build()
        total = conv.weight.sum() if conv.bias is None else conv.weight.sum() + conv.bias.sum()
        if not total.requires_grad:
            return ()
        gradients = torch.autograd.grad(total, [p for _, p in candidates], allow_unused=True)
    return tuple(name for (name, _), gradient in zip(candidates, gradients, strict=True) if gradient is not None)


def _example(x: Any) -> Any:
    """In float64, and of two images at least: batch statistics need more than one value per channel."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    x = x.detach().cpu()
    return (x if x.dim() < 2 or x.shape[0] > 1 else torch.cat([x, x])).double()
