"""A classifier with its preprocessing inside: 8-bit pixels in, probabilities out."""

from __future__ import annotations

import torch
from torch import nn

from repfold.errors import RepFoldError
from repfold.models import Preprocessing


class FromPixels(nn.Module):
    """x_NHWC uint8, already resized and cropped -> softmax(network((x / 255 − mean) / std)) [N, K] float32."""

    scale_C11: torch.Tensor
    shift_C11: torch.Tensor

    def __init__(self, network: nn.Module, seen: Preprocessing) -> None:
        super().__init__()
        self.network = network
        std_C = torch.tensor(seen.std)
        self.register_buffer("scale_C11", (1 / (255 * std_C)).view(-1, 1, 1))
        self.register_buffer("shift_C11", (-torch.tensor(seen.mean) / std_C).view(-1, 1, 1))
        self.train(network.training)

    def forward(self, x_NHWC: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of the classes."""
        # Without the copy the last maps' strides, which an exporter takes for constants, would depend on their sizes.
        x_NCHW = x_NHWC.permute(0, 3, 1, 2).contiguous().float() * self.scale_C11 + self.shift_C11
        dtype = next((parameter.dtype for parameter in self.network.parameters()), x_NCHW.dtype)
        return torch.softmax(self.network(x_NCHW.to(dtype)).float(), dim=1)


def from_pixels(network: nn.Module, seen: Preprocessing | None) -> tuple[FromPixels, torch.Tensor]:
    """Return ``network`` with its preprocessing inside, and pixels to follow it with.

    Raises: RepFoldError when nothing is known of the preprocessing.
    """
    if seen is None:
        raise RepFoldError(
            "The model does not say how images are to be preprocessed, so that cannot go into the file: "
            "save it with a description."
        )
    shape = (1, seen.image_size, seen.image_size, seen.channels)
    pixels_NHWC = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return FromPixels(network, seen), pixels_NHWC
