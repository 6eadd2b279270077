"""A way around a memory error of oneDNN (github.com/uxlfoundation/oneDNN/issues/6035).

The weight gradient of a strided 1x1 convolution of channels-last images with few channels writes past its workspace,
in float32 and bfloat16, on AVX2 and AVX-512: the process crashes, or goes on with a damaged heap. RepVGG's stem has
such a branch. A strided 1x1 convolution without padding reads every s-th pixel only, so convolving just these with
stride 1 is the same function, and another kernel of oneDNN.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from repfold.modules import replace_modules

# oneDNN's block of channels; with fewer, whole blocks are written where there is room for less.
_CHANNEL_BLOCK = 16


class SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution with stride, computed as a convolution with stride 1 of every s-th pixel."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """As nn.Conv2d's: [N, C, H, W] -> [N, O, H', W']."""
        down, across = self.stride
        return functional.conv2d(x_NCHW[:, :, ::down, ::across], self.weight, self.bias, 1, 0, 1, self.groups)


def replace_strided_pointwise(network: nn.Module) -> list[str]:
    """Replace, in place, each convolution that the error can strike; return their names.

    Parameters stay the same objects, and the names in the state_dict too.
    """
    found = [
        (name, module)
        for name, module in network.named_modules(remove_duplicate=False)
        if name and type(module) is nn.Conv2d and _is_struck(module)
    ]
    replace_modules(network, {module: _subsampled(module) for _, module in found})
    return [name for name, _ in found]


def _is_struck(conv: nn.Conv2d) -> bool:
    pointwise = conv.kernel_size == (1, 1) and conv.padding in ((0, 0), "valid")
    return pointwise and max(conv.stride) > 1 and conv.in_channels < _CHANNEL_BLOCK


def _subsampled(conv: nn.Conv2d) -> SubsampledConv2d:
    # On the meta device: its own parameters are not wanted.
    replacement = SubsampledConv2d(
        conv.in_channels,
        conv.out_channels,
        1,
        conv.stride,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    replacement.weight, replacement.bias = conv.weight, conv.bias
    return replacement.train(conv.training)
