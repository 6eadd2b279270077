"""Networks of single PyTorch operators, saved as model files, and what PyTorch computes of them in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from repfold import engine, models


class Network(nn.Module):
    """A forward of its own, with these layers and tensors."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.call = forward
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def spread(network: nn.Module) -> nn.Module:
    """No parameter that is one or zero everywhere."""
    for parameter in network.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return network.eval()


def error_of(network: nn.Module, x: Tensor, path: Path, kernels: str, *, oracle: nn.Module | None = None) -> float:
    """Save the network as a model file, run the engine on ``x``, and return its relative distance from float64.

    ``oracle``: what is computed in float64, where it is not the network itself.
    """
    models.save(network, path, example=x)
    with torch.no_grad():
        expected = copy.deepcopy(oracle or network).double()(x.double()).numpy()
    loaded = engine.load(path, threads=2, kernels=kernels)
    worst = 0.0
    for _ in range(2):  # what is computed once must still be there
        found = loaded(x.numpy())
        assert found.size == expected.size
        worst = max(worst, float(np.abs(found.reshape(expected.shape) - expected).max() / np.abs(expected).max()))
    return worst
