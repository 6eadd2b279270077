"""The vocabulary: every operator that has a name here, its arguments in order, and its value on tensors.

What has no name here is an operator of PyTorch's own set, called by that set's name and argument names
("aten.cumsum.default"); doors and readers treat it as a black box that is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from repfold.graph.onnx.kept import onnx_node

PREFIX = "aten."


@dataclass(frozen=True)
class Operator:
    """An operator of the vocabulary; ``run`` computes it from arguments by name."""

    run: Callable[..., Any]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the arguments, in order."""
        return tuple(signature(self.run).parameters)

    @property
    def defaults(self) -> dict[str, Any]:
        """The arguments that may be left out, with their values."""
        found = signature(self.run).parameters.values()
        return {p.name: p.default for p in found if p.default is not Parameter.empty}


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] = (1,),
    padding: tuple[int, ...] = (0,),
    dilation: tuple[int, ...] = (1,),
    groups: int = 1,
    transposed: bool = False,
    output_padding: tuple[int, ...] = (0,),
) -> Tensor:
    """[N, I, *size] -> [N, O, *size']; weight [O, I/groups, *k], of a transposed convolution [I, O/groups, *k]."""
    if transposed:
        call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.dim() - 3]
        return call(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3](x, weight, bias, stride, padding, dilation, groups)


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """While ``training`` it normalises by the batch's statistics and updates the running ones."""
    return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """As in PyTorch; ``use_input_stats`` false normalises by the running statistics."""
    return F.instance_norm(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def layer_norm(x: Tensor, shape: tuple[int, ...], weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:  # fmt: skip
    """As in PyTorch, over the last ``len(shape)`` axes."""
    return F.layer_norm(x, shape, weight, bias, eps)


def group_norm(x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:  # fmt: skip
    """As in PyTorch: statistics of each image and group of channels."""
    return F.group_norm(x, groups, weight, bias, eps)


def max_pool(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...],
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """As in PyTorch, over as many last axes as ``kernel`` has entries."""
    call = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return call(x, kernel, stride, padding, dilation, ceil_mode)


def avg_pool(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...] = (0,),
    ceil_mode: bool = False, count_include_pad: bool = True, divisor: int | None = None,
) -> Tensor:  # fmt: skip
    """As in PyTorch, over as many last axes as ``kernel`` has entries; ``divisor`` only with two or three."""
    if len(kernel) == 1:
        return F.avg_pool1d(x, kernel, stride, padding, ceil_mode, count_include_pad)
    call = F.avg_pool2d if len(kernel) == 2 else F.avg_pool3d
    return call(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)


def adaptive_avg_pool(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """As in PyTorch, to ``size`` along as many last axes as it has entries."""
    call: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(size) - 1]
    y: Tensor = call(x, size)
    return y


def mean(x: Tensor, dims: tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Mean over the axes ``dims``."""
    return x.mean(dims, keepdim)


def total(x: Tensor, dims: tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Sum over the axes ``dims``."""
    return x.sum(dims, keepdim)


def resize(
    x: Tensor, size: tuple[int, ...], mode: str = "nearest", align_corners: bool = False,
    scale: tuple[float | None, ...] | None = None,
) -> Tensor:  # fmt: skip
    """Interpolate the last axes to ``size``.

    ``scale``: the factor of each axis that positions are computed with, where it is not the ratio of the sizes;
    ``mode``: as in PyTorch, also "antialiased bilinear" and "antialiased bicubic".
    """
    overload, corners = RESIZES[mode, len(size)]
    factors = scale or (None,) * len(size)
    y: Tensor = overload(x, size, align_corners, *factors) if corners else overload(x, size, *factors)
    return y


# (mode, spatial axes) -> PyTorch's operator, and whether it takes align_corners.
RESIZES: dict[tuple[str, int], tuple[Any, bool]] = {
    ("nearest", 1): (torch.ops.aten.upsample_nearest1d.default, False),
    ("nearest", 2): (torch.ops.aten.upsample_nearest2d.default, False),
    ("nearest", 3): (torch.ops.aten.upsample_nearest3d.default, False),
    ("nearest-exact", 1): (torch.ops.aten._upsample_nearest_exact1d.default, False),
    ("nearest-exact", 2): (torch.ops.aten._upsample_nearest_exact2d.default, False),
    ("nearest-exact", 3): (torch.ops.aten._upsample_nearest_exact3d.default, False),
    ("linear", 1): (torch.ops.aten.upsample_linear1d.default, True),
    ("bilinear", 2): (torch.ops.aten.upsample_bilinear2d.default, True),
    ("bicubic", 2): (torch.ops.aten.upsample_bicubic2d.default, True),
    ("trilinear", 3): (torch.ops.aten.upsample_trilinear3d.default, True),
    ("antialiased bilinear", 2): (torch.ops.aten._upsample_bilinear2d_aa.default, True),
    ("antialiased bicubic", 2): (torch.ops.aten._upsample_bicubic2d_aa.default, True),
}


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:  # fmt: skip
    """As in PyTorch, without dropout."""
    return F.scaled_dot_product_attention(query, key, value, mask, 0.0, is_causal, scale=scale)


def pad(x: Tensor, pads: tuple[int, ...], mode: str = "constant", value: float = 0.0) -> Tensor:
    """``pads``: samples before and after, last axis first, as PyTorch gives them; negative ones crop."""
    return F.pad(x, pads, mode, value if mode == "constant" else None)


def slice_(x: Tensor, dim: int, start: int = 0, end: int | None = None, step: int = 1) -> Tensor:
    """``x[start:end:step]`` along the axis ``dim``."""
    y: Tensor = torch.ops.aten.slice(x, dim, start, end, step)
    return y


def dropout(x: Tensor, p: float, kind: str = "dropout", training: bool = False) -> Tensor:
    """``kind``: the function of torch.nn.functional that it is in training; in evaluation it is the identity."""
    return getattr(F, kind)(x, p, training) if kind in DROPOUTS and training else x


DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")

OPERATORS: dict[str, Operator] = {
    # linear
    "conv": Operator(conv),
    "linear": Operator(lambda x, weight, bias=None: F.linear(x, weight, bias)),
    "matmul": Operator(lambda x, other: torch.matmul(x, other)),
    "batch_norm": Operator(batch_norm),
    "avg_pool": Operator(avg_pool),
    # arithmetic of two values, or of a value and a number
    "add": Operator(lambda x, other: torch.add(x, other)),
    "sub": Operator(lambda x, other: torch.sub(x, other)),
    "mul": Operator(lambda x, other: torch.mul(x, other)),
    "div": Operator(lambda x, other: torch.div(x, other)),
    "neg": Operator(lambda x: torch.neg(x)),
    "maximum": Operator(lambda x, other: torch.maximum(x, other)),
    "minimum": Operator(lambda x, other: torch.minimum(x, other)),
    "pow": Operator(lambda x, exponent: torch.pow(x, exponent)),
    # movement
    "view": Operator(lambda x, size: x.reshape(size)),
    "permute": Operator(lambda x, dims: x.permute(dims)),
    "expand": Operator(lambda x, size: x.expand(size)),
    "slice": Operator(slice_),
    "select": Operator(lambda x, dim, index: x.select(dim, index)),
    "flip": Operator(lambda x, dims: x.flip(dims)),
    "cat": Operator(lambda xs, dim: torch.cat(xs, dim)),
    "pad": Operator(pad),
    "pixel_shuffle": Operator(lambda x, factor: F.pixel_shuffle(x, factor)),
    "pixel_unshuffle": Operator(lambda x, factor: F.pixel_unshuffle(x, factor)),
    "channel_shuffle": Operator(lambda x, groups: F.channel_shuffle(x, groups)),
    "resize": Operator(resize),
    "to": Operator(lambda x, dtype: x.to(dtype)),
    "item": Operator(lambda x, index: x[index]),
    # activations
    "relu": Operator(lambda x: torch.relu(x)),
    "clamp": Operator(lambda x, low=None, high=None: torch.clamp(x, low, high)),
    "leaky_relu": Operator(lambda x, slope=0.01: F.leaky_relu(x, slope)),
    "elu": Operator(lambda x, alpha=1.0: F.elu(x, alpha)),
    "prelu": Operator(lambda x, weight: torch.prelu(x, weight)),
    "sigmoid": Operator(lambda x: torch.sigmoid(x)),
    "tanh": Operator(lambda x: torch.tanh(x)),
    "silu": Operator(lambda x: F.silu(x)),
    "gelu": Operator(lambda x, approximate="none": F.gelu(x, approximate=approximate)),
    "hardswish": Operator(lambda x: F.hardswish(x)),
    "hardsigmoid": Operator(lambda x: F.hardsigmoid(x)),
    "softplus": Operator(lambda x, beta=1.0, threshold=20.0: F.softplus(x, beta, threshold)),
    "mish": Operator(lambda x: F.mish(x)),
    "exp": Operator(lambda x: torch.exp(x)),
    "sqrt": Operator(lambda x: torch.sqrt(x)),
    "rsqrt": Operator(lambda x: torch.rsqrt(x)),
    "softmax": Operator(lambda x, dim: torch.softmax(x, dim)),
    "log_softmax": Operator(lambda x, dim: torch.log_softmax(x, dim)),
    # norms by a value's own statistics
    "layer_norm": Operator(layer_norm),
    "group_norm": Operator(group_norm),
    "instance_norm": Operator(instance_norm),
    # pools, reductions, attention
    "max_pool": Operator(max_pool),
    "adaptive_avg_pool": Operator(adaptive_avg_pool),
    "mean": Operator(mean),
    "sum": Operator(total),
    "scaled_dot_product_attention": Operator(scaled_dot_product_attention),
    # the identity in evaluation
    "dropout": Operator(dropout),
    "train_only": Operator(lambda x, path: x),  # a module of the network's own that only acts in training
    "detach": Operator(lambda x: x.detach()),
    # a node of an ONNX file that has no name here, as it was
    "onnx_node": Operator(onnx_node),
}  # fmt: skip


@cache
def operator(op: str) -> Operator:
    """The operator of the name ``op``. Raises: KeyError when there is none."""
    if not op.startswith(PREFIX):
        return OPERATORS[op]
    overload = aten(op)
    return Operator(overload)


@cache
def aten(op: str) -> Any:
    """PyTorch's operator of the name "aten.<name>.<overload>". Raises: KeyError when it has none."""
    _, name, overload = op.split(".")
    try:
        return getattr(getattr(torch.ops.aten, name), overload)
    except AttributeError as error:
        raise KeyError(op) from error


def is_random(op: str) -> bool:
    """Whether it is an operator of PyTorch's that draws random numbers."""
    return op.startswith(PREFIX) and torch.Tag.nondeterministic_seeded in aten(op).tags


def run(op: str, arguments: dict[str, Any]) -> Any:
    """The operator's value on tensors."""
    if op.startswith(PREFIX):
        return aten(op)(**arguments)
    return OPERATORS[op].run(**arguments)
