"""Parameter groups: which parameters decay, decided by the type of the module that holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from repfold.counted import counted
from repfold.modules import DiagonalKernels

# Layers whose parameters are scales and shifts, of whatever shape; _NormBase is that of BatchNorm and InstanceNorm.
NORMS: tuple[type[nn.Module], ...] = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_LAYERS: tuple[type[nn.Module], ...] = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.Embedding)


@dataclass(frozen=True)
class Groups:
    """``decayed`` and ``exempt``: parameters with and without weight decay; ``summary``: one line for each kind."""

    decayed: tuple[nn.Parameter, ...]
    exempt: tuple[nn.Parameter, ...]
    summary: tuple[str, ...]

    @property
    def values(self) -> tuple[int, int]:
        """How many numbers decay, and how many are exempt."""
        decayed, exempt = (sum(p.numel() for p in parameters) for parameters in (self.decayed, self.exempt))
        return decayed, exempt

    def for_optimizer(
        self,
        weight_decay: float,
        scales: Mapping[nn.Parameter, float] | None = None,
        apart: Container[nn.Parameter] = frozenset(),
    ) -> list[dict[str, Any]]:
        """The groups as optimizers of torch.optim take them; an empty one is left out.

        ``scales``: what the learning rate of each parameter is multiplied by, which its group has as "lr_scale".
        ``apart``: parameters that share no group with others, since they are trained when the others are not: fused
        kernels want all of a group to have moved before, or none.
        """
        pairs = ((self.decayed, weight_decay), (self.exempt, 0.0))
        if scales is None:
            return [{"params": list(parameters), "weight_decay": decay} for parameters, decay in pairs if parameters]
        groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
        for parameters, decay in pairs:
            for parameter in parameters:
                scale = scales.get(parameter, 1.0)
                empty = {"params": [], "weight_decay": decay, "lr_scale": scale}
                groups.setdefault((decay, scale, parameter in apart), empty)["params"].append(parameter)
        return list(groups.values())


def parameter_groups(network: nn.Module, *, exempt: Container[nn.Parameter] = frozenset()) -> Groups:
    """Sort the trainable parameters: norms and everything of one dimension (biases, scales) are exempt from decay.

    So are those in ``exempt``. Scales that a module states to be ``DiagonalKernels`` decay as kernels do, so that
    branches of constant scales decay as the kernel that they fold to. A parameter that several modules share counts
    once, with the first of them.
    """
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    tensors: Counter[tuple[str, bool]] = Counter()
    values: Counter[tuple[str, bool]] = Counter()
    seen: set[int] = set()
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            decays = _is_kernel(module, name, parameter) and parameter not in exempt
            (decayed if decays else undecayed).append(parameter)
            kind = (_layer_name(module), decays)
            tensors[kind] += 1
            values[kind] += parameter.numel()
    summary = tuple(
        f"{name}: {counted(count, 'tensor')}, {values[name, decays]:,} values, {'decay' if decays else 'no decay'}"
        for (name, decays), count in sorted(tensors.items(), key=lambda item: (not item[0][1], item[0][0]))
    )
    return Groups(tuple(decayed), tuple(undecayed), summary)


def _layer_name(module: nn.Module) -> str:
    """The name that users know: that of PyTorch's layer, also where RepFold runs it by a faster class of its own."""
    known = [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules.")]
    return next((name for name in known if name != "Module"), type(module).__name__)


def _is_kernel(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(module, DiagonalKernels) and name in module.diagonal_kernels:
        return True
    return _dimensions(module, parameter) >= 2 and not isinstance(module, NORMS)


def _dimensions(module: nn.Module, parameter: nn.Parameter) -> int:
    """Of a layer's parameter those of its shape; of another, such as a scale [O, 1, 1], those longer than 1.

    A layer with a single input channel has a kernel all the same.
    """
    is_layer = type(module).__module__.startswith("torch.nn.") or isinstance(module, _LAYERS)
    return parameter.ndim if is_layer else sum(size > 1 for size in parameter.shape)
