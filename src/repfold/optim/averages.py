"""Averages of the weights along the training: exponential (EMA) and equal (SWA, Izmailov et al. 2018).

    average = Average(network, decay=0.999)        # decay=None: every update counts the same
    ...                                            # after each step, or each epoch:
    average.update(network)
    with average.applied(network):                 # the averaged weights, and statistics re-estimated for them
        reestimate_statistics(network, batches)
        evaluate(network)

BatchNorm's running statistics belong to the weights that they were gathered with: those of an average have to be
estimated anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from repfold.errors import RepFoldError
from repfold.modules import eval_mode

# The first updates of an EMA count more: decay is at most (1 + n) / (_RAMP + n) at update n, or the weights that
# the training began with would weigh for 1/(1 - decay) updates.
_RAMP = 10


class Average:
    """The average of a network's parameters over updates; buffers are not averaged.

    ``decay``: average <- decay·average + (1 - decay)·weights; None: the mean of all updates.

    Raises: RepFoldError when decay is not in [0, 1).
    """

    def __init__(self, network: nn.Module, *, decay: float | None = 0.999) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise RepFoldError(f"The decay of an average must lie in [0, 1), not {decay}: 0.999 is usual.")
        self.decay, self.updates = decay, 0
        self.weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the network's current weights to the average."""
        self.updates += 1
        share = 1 / self.updates
        if self.decay is not None:
            share = 1 - min(self.decay, (1 + self.updates) / (_RAMP + self.updates))
        for name, parameter in network.named_parameters():
            self.weights[name].lerp_(parameter, share)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Within the block the network has the averaged weights; afterwards its own, and its own buffers."""
        own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self.weights[name])
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of updates."""
        return {"weights": self.weights, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises: RepFoldError when it is of another network."""
        if state["weights"].keys() != self.weights.keys():
            raise RepFoldError("The averaged weights are of another network.")
        self.updates = int(state["updates"])
        for name, tensor in self.weights.items():
            tensor.copy_(state["weights"][name])


@torch.no_grad()
def reestimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of the network's norms by means over ``batches`` of inputs.

    Networks without running statistics are left as they are, and no batch is then drawn. Modes are kept.
    """
    norms: list[Any] = [layer for layer in network.modules() if getattr(layer, "running_mean", None) is not None]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    with eval_mode(network):
        for layer in norms:
            layer.train()
            if isinstance(layer, _NormBase):
                layer.reset_running_stats()
        try:
            for seen, x_NCHW in enumerate(batches):
                for layer in norms:
                    layer.momentum = 1 / (seen + 1)  # makes the moving average a plain mean
                network(x_NCHW)
        finally:
            for layer, momentum in zip(norms, momenta, strict=True):
                layer.momentum = momentum
