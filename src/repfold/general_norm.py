"""Normalisation within groups of samples, channels, rows and columns, of which the known norms are special cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from repfold.errors import RepFoldError
from repfold.grouped_norm import EACH, grouped_norm


class GeneralNorm2d(nn.Module):
    """Normalise a batch within groups of samples, channels, rows and columns, then scale and shift each channel.

    x [N, C, H, W] is seen as [gN, N/gN, gC, C/gC, gH, H/gH, gW, W/gW] with ``groups`` = [gN, gC, gH, gW]; the mean and
    the variance are those over the four inner axes. Two readings:

    - ``per_sample=False``, to the letter: statistics run across the batch, so that evaluation uses running ones, of
      shape [gC, gH, gW] (averages over the gN groups of samples; variances unbiased, as in BatchNorm).
      [1, C, 1, 1] is BatchNorm, [1, 1, 1, 1] pools the whole batch, [N, C, 1, 1] is InstanceNorm that tracks its
      statistics, and [N, 1, 1, 1] is LayerNorm in training.
    - ``per_sample=True``: every sample by itself (gN is taken as N), in training and evaluation alike; no running
      statistics. gC = G, gH = gW = 1 is GroupNorm(G), gC = 1 LayerNorm, gC = C InstanceNorm.

    Raises: RepFoldError when the groups do not divide the channels, and in ``forward`` when they do not divide the
    batch, the height or the width, or when a group of which statistics are taken has a single value.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self,
        channels: int,
        groups: Sequence[int] = (1, 1, 1, 1),
        per_sample: bool = False,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__()
        if len(groups) != 4 or min(groups) < 1:
            raise RepFoldError(f"GeneralNorm2d: groups={list(groups)} must be four numbers >= 1: [gN, gC, gH, gW].")
        require_divides("groups of channels", groups[1], "channels", channels)
        self.channels, self.groups, self.per_sample = channels, tuple(int(group) for group in groups), per_sample
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        shape = self.groups[1:]
        self.register_buffer("running_mean", None if per_sample else torch.zeros(shape))
        self.register_buffer("running_var", None if per_sample else torch.ones(shape))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the normalised batch, [N, C, H, W], in the dtype it came in; statistics are in float32 at least."""
        inner = self.groups[1:]
        if self.training and type(x_NCHW) is Tensor:  # not while a graph is recorded, which is of plain operators
            groups = (EACH, *inner) if self.per_sample else self.groups
            check_groups(x_NCHW, groups)
            y_NCHW, mean, variance = grouped_norm(x_NCHW, groups, self.weight, self.bias, self.eps)
            self._follow(mean, variance, x_NCHW.numel() // mean.numel())
            return y_NCHW
        if self.running_mean is None or self.running_var is None:
            return self._scaled(normalise(x_NCHW, (EACH, *inner), self.eps))
        if self.training:
            mean, variance = statistics(x_NCHW, self.groups)
            self._follow(mean, variance, x_NCHW.numel() // mean.numel())
            return self._scaled(normalise(x_NCHW, self.groups, self.eps, mean, variance))
        if inner[1:] == (1, 1):  # then it is BatchNorm, and may be folded and exported as such
            mean_C, variance_C = (
                buffer.view(-1).repeat_interleave(self.channels // inner[0])
                for buffer in (self.running_mean, self.running_var)
            )
            return functional.batch_norm(x_NCHW, mean_C, variance_C, self.weight, self.bias, eps=self.eps)
        shape = (1, 1, inner[0], 1, inner[1], 1, inner[2], 1)
        mean, variance = self.running_mean.view(shape), self.running_var.view(shape)
        return self._scaled(normalise(x_NCHW, (1, *inner), self.eps, mean, variance))

    def _scaled(self, x_NCHW: Tensor) -> Tensor:
        if self.weight is None or self.bias is None:
            return x_NCHW
        return (x_NCHW * self.weight[:, None, None] + self.bias[:, None, None]).to(x_NCHW.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, values: int) -> None:
        """Move the running statistics, if any, towards those of a batch, with ``values`` values in each group."""
        if self.running_mean is None or self.running_var is None:
            return
        for buffer, now in ((self.running_mean, mean), (self.running_var, variance * (values / (values - 1)))):
            buffer.lerp_(now.mean(dim=0).view(self.groups[1:]).to(buffer.dtype), self.momentum)

    def extra_repr(self) -> str:
        """Return what ``print`` shows of the layer."""
        return f"{self.channels}, groups={list(self.groups)}, per_sample={self.per_sample}, eps={self.eps:g}"


INNER = (1, 3, 5, 7)


def statistics(x_NCHW: Tensor, groups: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the mean and the (biased) variance of each group, [gN, 1, gC, 1, gH, 1, gW, 1], in float32 at least.

    Raises: RepFoldError when the groups do not divide the shape or hold a single value.
    """
    check_groups(x_NCHW, groups)
    x = _grouped(x_NCHW, groups)
    variance, mean = torch.var_mean(x, dim=INNER, correction=0, keepdim=True)
    return mean, variance


def normalise(
    x_NCHW: Tensor, groups: Sequence[int], eps: float, mean: Tensor | None = None, variance: Tensor | None = None
) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) within ``groups``; the statistics are those of x unless given."""
    if mean is None or variance is None:
        mean, variance = statistics(x_NCHW, groups)
    normal = (_grouped(x_NCHW, groups) - mean) * (variance + eps).rsqrt()
    return normal.reshape(x_NCHW.shape).to(x_NCHW.dtype)


# Looks at shapes, which a symbolic trace cannot follow: it is one operation of the traced network.
torch.fx.wrap("normalise")


def check_groups(x_NCHW: Tensor, groups: Sequence[int]) -> None:
    """Raises: RepFoldError when the groups do not divide the shape or hold a single value."""
    if x_NCHW.numel() == math.prod(_counts(x_NCHW, groups)):
        raise RepFoldError(
            f"GeneralNorm2d: a batch of shape {list(x_NCHW.shape)} in groups={list(groups)} has one value in each "
            "group, which normalises everything to 0: use fewer groups or a larger batch."
        )


def _counts(x_NCHW: Tensor, groups: Sequence[int]) -> tuple[int, ...]:
    counts = (groups[0] or len(x_NCHW), *groups[1:])
    for what, count, size in zip(("samples", "channels", "rows", "columns"), counts, x_NCHW.shape, strict=True):
        require_divides(f"groups of {what}", count, what, size)
    return counts


def _grouped(x_NCHW: Tensor, groups: Sequence[int]) -> Tensor:
    """Return x as [gN, N/gN, gC, C/gC, gH, H/gH, gW, W/gW]."""
    counts = _counts(x_NCHW, groups)
    sizes = [part for size, count in zip(x_NCHW.shape, counts, strict=True) for part in (count, size // count)]
    return (x_NCHW.float() if x_NCHW.element_size() < 4 else x_NCHW).reshape(sizes)


def check_batch(network: nn.Module, batch: int) -> None:
    """Raise RepFoldError when a training batch does not split into the groups of samples of a GeneralNorm2d."""
    for path, layer in network.named_modules():
        if isinstance(layer, GeneralNorm2d) and not layer.per_sample and batch % layer.groups[0]:
            raise RepFoldError(
                f"{path}: batches of {batch} images (of each process) do not split into {layer.groups[0]} groups of "
                "samples: choose a batch that gN divides."
            )


def require_divides(what: str, groups: int, of: str, size: int) -> None:
    """Raises: RepFoldError unless so many ``groups`` divide the ``size``; ``what`` and ``of`` name them."""
    if groups < 1:
        raise RepFoldError(f"The number of {what} must be at least 1, not {groups}.")
    if size % groups:
        raise RepFoldError(f"{groups} {what} do not divide {size} {of}: choose a divisor of {size}.")
