"""Output statistics, on an example, of convolutions without a norm behind them, for the norms that are put there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from repfold.expand.folding import output_of
from repfold.expand.sites import Site, skeleton


@dataclass(frozen=True)
class Moments:
    """Mean and variance, one per channel, of what a convolution gives without its bias."""

    mean_C: Tensor
    var_C: Tensor


def moments_of(network: nn.Module, sites: list[Site], example: Tensor) -> dict[str, Moments]:
    """By path, the moments of the convolutions without a norm behind them, in eval mode.

    Raises: FoldError when the network cannot run on the example.
    """
    found: dict[str, Moments] = {}
    twin = skeleton(network).eval()
    for site in sites:
        if site.norm is None:
            twin.get_submodule(site.name).register_forward_hook(_recorder(site.name, found))
    output_of(twin, example)
    return found


def _recorder(name: str, found: dict[str, Moments]) -> Callable[[nn.Module, Any, Tensor], None]:
    def record(module: nn.Module, _: object, output: Tensor) -> None:
        y_CX = output.double().cpu().transpose(0, 1).flatten(1)
        mean_C = y_CX.mean(1)
        if isinstance(module.bias, Tensor):
            mean_C = mean_C - module.bias.double().cpu()
        found[name] = Moments(mean_C, y_CX.var(1, unbiased=y_CX.shape[1] > 1))

    return record
