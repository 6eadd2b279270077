"""Delta-orthogonal initialisation (Xiao et al. 2018): deep plain networks that train without branches or norms."""

from __future__ import annotations

import math

import torch
from torch import nn

from repfold.errors import RepFoldError


@torch.no_grad()
def delta_orthogonal_(weight_OIHW: torch.Tensor, gain: float = math.sqrt(2)) -> torch.Tensor:
    """Fill a kernel, in place, with zeros and, at its centre tap, gain·Q; Q has orthonormal columns: QᵀQ = 1.

    Q is drawn uniformly (Haar): the Q of a QR decomposition of normal values, its columns times sign(diag R). The
    gain sqrt(2) keeps the variance through ReLU; sqrt(2/(1+slope²)) through LeakyReLU.
    Raises: RepFoldError when there are more input than output channels, for which no such Q exists.
    """
    out_channels, in_channels = weight_OIHW.shape[:2]
    if in_channels > out_channels:
        raise RepFoldError(
            f"Delta-orthogonal initialisation of {in_channels} -> {out_channels} channels does not exist: it needs at "
            "least as many output as input channels."
        )
    q_OI, r_II = torch.linalg.qr(torch.randn(out_channels, in_channels, dtype=torch.float64))
    q_OI = q_OI * r_II.diagonal().sign()
    height, width = weight_OIHW.shape[2:]
    weight_OIHW.zero_()
    weight_OIHW[:, :, height // 2, width // 2] = (gain * q_OI).to(weight_OIHW)
    return weight_OIHW


def initialise_delta_orthogonal(network: nn.Module, gain: float = math.sqrt(2)) -> None:
    """Initialise every ungrouped convolution of ``network`` so, and its biases with zero.

    A convolution with fewer output than input channels keeps the initialisation that it has.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels <= layer.out_channels:
            delta_orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
