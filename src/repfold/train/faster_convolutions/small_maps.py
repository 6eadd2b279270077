"""Convolutions with small output maps as matrix products, for training in bfloat16 on CPUs.

A convolution is the product of a matrix of the input's windows with the matrix of its kernel. Where the output has few
pixels the windows are few, and building them costs less than what oneDNN loses on such shapes: its weight gradients run
at about half the speed of a product of 4x4 pixels, and all three of its passes at a third and less of 2x2. The last
stages of networks for small images consist of such maps. benchmarks/train_step.py measures what that makes of a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_input

from repfold.modules import eval_mode, replace_modules

# Output maps of so many pixels and fewer: the weight gradient as a product; the other two passes as well.
GRADIENT_PIXELS, WHOLE_PIXELS = 16, 4

Pair = tuple[int, int]


class SmallMapConv2d(nn.Conv2d):
    """A dense convolution whose weight gradient is a matrix product; with ``whole`` its other passes are, too.

    In eval mode it is an ordinary one, whose graph can be recorded and saved.
    """

    whole: bool

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """As nn.Conv2d's: [N, C, H, W] -> [N, O, H', W']."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x_NCHW)
        if torch.is_autocast_enabled(x_NCHW.device.type):
            x_NCHW = x_NCHW.to(torch.get_autocast_dtype(x_NCHW.device.type))
        weight_OIHW = self.weight.to(x_NCHW.dtype)
        y_NCHW: Tensor = _WindowProduct.apply(x_NCHW, weight_OIHW, self.stride, self.padding, self.whole)  # type: ignore[no-untyped-call]
        return y_NCHW if self.bias is None else y_NCHW + self.bias.to(y_NCHW.dtype)[:, None, None]


def replace_small_maps(network: nn.Module, example_NCHW: Tensor) -> list[str]:
    """Replace, in place, each convolution that has a small output map for ``example_NCHW``; return their names.

    Parameters stay the same objects, and the names in the state_dict too. Weights become channels-last in memory, the
    order in which windows are laid out.
    """
    small = {
        name: pixels for name, pixels in _output_pixels(network, example_NCHW).items() if pixels <= GRADIENT_PIXELS
    }
    replacements: dict[nn.Module, nn.Module] = {}
    for name, pixels in small.items():
        conv = network.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        replacements[conv] = _replacement(conv, whole=pixels <= WHOLE_PIXELS)
    replace_modules(network, replacements)
    return list(small)


@torch.no_grad()
def _output_pixels(network: nn.Module, example_NCHW: Tensor) -> dict[str, int]:
    """The pixels of the largest output map of each dense convolution, found by running the network once."""
    pixels: dict[str, int] = {}

    def note(name: str, y_NCHW: Tensor) -> None:
        pixels[name] = max(pixels.get(name, 0), y_NCHW.shape[-2] * y_NCHW.shape[-1])

    hooks = [
        module.register_forward_hook(lambda module, x, y, name=name: note(name, y))
        for name, module in network.named_modules()
        if name and type(module) is nn.Conv2d and _is_dense(module)
    ]
    try:
        with eval_mode(network):
            network(example_NCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return pixels


def _is_dense(conv: nn.Conv2d) -> bool:
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    return plain and isinstance(conv.padding, tuple)


def _replacement(conv: nn.Conv2d, *, whole: bool) -> SmallMapConv2d:
    # On the meta device: its own parameters are not wanted.
    replacement = SmallMapConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        device="meta",
    )
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    replacement.weight, replacement.bias = conv.weight, conv.bias
    replacement.whole = whole
    return replacement.train(conv.training)


class _WindowProduct(torch.autograd.Function):
    """y = W·K with W the windows of x, [pixels, KH·KW·I], and K the kernel, [KH·KW·I, O]; so dK = Wᵀ·dy, dW = dy·Kᵀ."""

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_OIHW: Tensor, stride: Pair, padding: Pair, whole: bool) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight_OIHW)
        ctx.stride, ctx.padding, ctx.whole = stride, padding, whole
        if not whole:
            return functional.conv2d(x_NCHW, weight_OIHW, None, stride, padding)
        windows = _windows(x_NCHW, weight_OIHW.shape, stride, padding)
        y_NHWO = windows.flatten(3) @ _matrix(weight_OIHW).t()
        return y_NHWO.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NOHW: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        x_NCHW, weight_OIHW = ctx.saved_tensors
        channels_out, channels_in, height, width = weight_OIHW.shape
        dy_PO = dy_NOHW.permute(0, 2, 3, 1).reshape(-1, channels_out)
        windows_PK = _windows(x_NCHW, weight_OIHW.shape, ctx.stride, ctx.padding).flatten(3).flatten(0, 2)
        dweight_OHWI = (dy_PO.t() @ windows_PK).view(channels_out, height, width, channels_in)
        dx_NCHW = None
        if ctx.needs_input_grad[0] and ctx.whole:
            windows_shape = (*dy_NOHW.shape[:1], *dy_NOHW.shape[2:], height, width, channels_in)
            dwindows = (dy_PO @ _matrix(weight_OIHW)).view(windows_shape)
            dx_NCHW = _overlap_add(dwindows, x_NCHW.shape, ctx.stride, ctx.padding)
        elif ctx.needs_input_grad[0]:
            dx_NCHW = conv2d_input(x_NCHW.shape, weight_OIHW, dy_NOHW, ctx.stride, ctx.padding)
        return dx_NCHW, dweight_OHWI.permute(0, 3, 1, 2), None, None, None


def _matrix(weight_OIHW: Tensor) -> Tensor:
    """The kernel as [O, KH·KW·I]; a view of channels-last weights."""
    return weight_OIHW.permute(0, 2, 3, 1).flatten(1)


def _windows(x_NCHW: Tensor, weight_shape: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """What each output pixel sees: a view [N, OH, OW, KH, KW, I] of the padded input."""
    (down, across), (high, wide) = stride, padding
    x_NHWC = x_NCHW.permute(0, 2, 3, 1)
    if high or wide:
        x_NHWC = functional.pad(x_NHWC, (0, 0, wide, wide, high, high))
    return x_NHWC.unfold(1, weight_shape[2], down).unfold(2, weight_shape[3], across).permute(0, 1, 2, 4, 5, 3)


def _overlap_add(windows: Tensor, shape: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """The transpose of ``_windows``: add what each output pixel sends to the pixels that it sees; [N, C, H, W]."""
    count, out_height, out_width, height, width, channels = windows.shape
    (down, across), (high, wide) = stride, padding
    padded = windows.new_zeros(count, shape[2] + 2 * high, shape[3] + 2 * wide, channels)
    for row in range(height):
        for column in range(width):
            rows = slice(row, row + down * (out_height - 1) + 1, down)
            columns = slice(column, column + across * (out_width - 1) + 1, across)
            padded[:, rows, columns] += windows[:, :, :, row, column]
    return padded[:, high : high + shape[2], wide : wide + shape[3]].permute(0, 3, 1, 2)
