"""Values as after training, without training: no constant that would hide a mistake, statistics that fit the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SMALL = 0.05  # layer scales start at 1e-6, and would hide the branch that they scale
RESIDUAL = 0.2  # of the scales of branches beside an identity
WEAK = 0.3  # a layer whose outputs are this much smaller than its inputs, as with transformers' weights of 0.02


def as_trained(network: nn.Module, x: Tensor, *, residual: tuple[str, ...] = ()) -> nn.Module:
    """Spread every parameter that its initialisation left constant, and let no layer be so weak that a norm's eps
    drowns it; then let each BatchNorm's statistics be those of its own input on random images like ``x``, off by some
    10 % as running statistics are. In eval mode.

    ``residual``: how the names of the norms of branches beside an identity end. Their scales are small, as training
    leaves them in deep networks; with the others' such a network amplifies rounding without bound.
    """
    torch.manual_seed(0)
    for parameter in network.parameters():
        first = parameter.detach().flatten()[:1]
        if parameter.numel() and parameter.is_floating_point() and bool((parameter.detach() == first).all()):
            with torch.no_grad():
                _spread(parameter, float(first))
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            _strengthen(module.weight)
    network.eval()
    named = {name: m for name, m in network.named_modules() if isinstance(getattr(m, "running_var", None), Tensor)}
    norms = list(named.values())
    for name, norm in named.items():
        _spread_affine(norm)
        if residual and name.endswith(residual):
            norm.weight.data *= RESIDUAL
    hooks = [norm.register_forward_pre_hook(_calibrate) for norm in norms]
    with torch.no_grad():
        network(torch.randn(2, *x.shape[1:]))
    for hook in hooks:
        hook.remove()
    return network


def _spread(parameter: Tensor, value: float) -> None:
    if value == 0:
        parameter.normal_(0, 0.02 if parameter.dim() > 1 else 0.1)
    else:
        parameter.uniform_(0.7, 1.3).mul_(value if abs(value) >= SMALL else 0.2)


def _spread_affine(norm: Any) -> None:
    """As training leaves them, also where the initialisation gave the norm a scale of 0.02."""
    with torch.no_grad():
        if isinstance(getattr(norm, "weight", None), Tensor):
            norm.weight.uniform_(0.7, 1.3)
        if isinstance(getattr(norm, "bias", None), Tensor):
            norm.bias.normal_(0, 0.1)


def _strengthen(weight: Tensor) -> None:
    gain = float(weight.detach().square().flatten(1).sum(1).mean().sqrt())
    if 0 < gain < WEAK:
        with torch.no_grad():
            weight.div_(gain)


def _calibrate(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    values = inputs[0].transpose(0, 1).flatten(1)
    variance = values.var(1) if values.shape[1] > 1 else torch.ones(values.shape[0])
    variance = variance.clamp_min(0.05 * float(variance.mean()) or 1.0)
    norm.running_mean.copy_(values.mean(1) + 0.1 * variance.sqrt() * torch.randn_like(variance))
    norm.running_var.copy_(variance * torch.empty_like(variance).uniform_(0.8, 1.25))
