"""The kernel and bias that each structure equals, written out from its paper's formulas in float64.

These are oracles: nothing here calls the blocks' own forward or the folding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic a value that training could give it; float64, eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = values.to(parameter.dtype) if name != "depthwise" else 0.3 * values.to(parameter.dtype)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=generator))
            layer.running_var.copy_(0.3 + torch.rand(layer.num_features, generator=generator))
    return module.double().eval()


def affine(bn: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """BN(x) = t·x + v, one t and v a channel."""
    t = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return t, bn.bias - t * bn.running_mean


def fused(kernel: torch.Tensor, bn: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    t, v = affine(bn)
    return kernel * t.view(-1, 1, 1, 1), v


def identity_kernel(channels: int, groups: int, size: int) -> torch.Tensor:
    kernel = torch.zeros(channels, channels // groups, size, size, dtype=torch.float64)
    for channel in range(channels):
        kernel[channel, channel % (channels // groups), size // 2, size // 2] = 1
    return kernel


def centred(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """A smaller kernel in the middle of a size x size one."""
    high, wide = (size - kernel.shape[2]) // 2, (size - kernel.shape[3]) // 2
    return F.pad(kernel, (wide, wide, high, high))


def composed(first: torch.Tensor, second: torch.Tensor, groups: int) -> torch.Tensor:
    """The kernel of a 1x1 (``first``), then a KxK, with loops instead of tensor tricks."""
    out_channels, inner_of_group = second.shape[:2]
    in_of_group = first.shape[1]
    kernel = torch.zeros(out_channels, in_of_group, *second.shape[2:], dtype=torch.float64)
    for o in range(out_channels):
        group = o // (out_channels // groups)
        for m in range(inner_of_group):
            for i in range(in_of_group):
                kernel[o, i] += second[o, m] * first[group * inner_of_group + m, i, 0, 0]
    return kernel


def passed_through(bias: torch.Tensor, second: torch.Tensor, groups: int) -> torch.Tensor:
    """The constant that a KxK makes of a constant ``bias`` before it."""
    out_channels, inner_of_group = second.shape[:2]
    totals = second.sum((2, 3))
    return torch.stack(
        [
            (totals[o] * bias[o // (out_channels // groups) * inner_of_group :][:inner_of_group]).sum()
            for o in range(out_channels)
        ]
    )


def total(terms: list[tuple[torch.Tensor, torch.Tensor]], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return sum(centred(kernel, size) for kernel, _ in terms), sum(bias for _, bias in terms)


def repvgg(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = block.kxk.conv.kernel_size[0]
    terms = [fused(block.kxk.conv.weight, block.kxk.norm), fused(block.point.conv.weight, block.point.norm)]
    if block.identity is not None:
        terms.append(fused(identity_kernel(len(block.identity.weight), groups, size), block.identity))
    return total(terms, size)


def acb(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    branches = (block.square, block.column, block.row)
    terms = [fused(branch.conv.weight, branch.norm) for branch in branches]
    return total(terms, block.square.conv.kernel_size[0])


def dbb(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = block.kxk.conv.kernel_size[0]
    terms = [fused(block.kxk.conv.weight, block.kxk.norm)]
    if block.point is not None:
        terms.append(fused(block.point.conv.weight, block.point.norm))
    row = block.point_kxk
    if hasattr(row.point, "change"):
        channels = row.point.change.weight.shape[0]
        first = row.point.change.weight + identity_kernel(channels, groups, 1)
    else:
        first = row.point.weight
    first, between = fused(first, row.pad.norm)
    t, v = affine(row.norm)
    kernel = composed(first, row.conv.weight, groups) * t.view(-1, 1, 1, 1)
    terms.append((kernel, passed_through(between, row.conv.weight, groups) * t + v))
    average = block.average
    out_channels = block.kxk.conv.out_channels
    mean = identity_kernel(out_channels, groups, 1).expand(-1, -1, size, size) / size**2
    t, v = affine(average.norm)
    if block.point is None:
        terms.append((mean * t.view(-1, 1, 1, 1), v))
    else:
        first, between = fused(average.point.weight, average.pad.norm)
        kernel = composed(first, mean, groups) * t.view(-1, 1, 1, 1)
        terms.append((kernel, passed_through(between, mean, groups) * t + v))
    return total(terms, size)


def doconv(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    weight = block.weight
    out_channels, in_of_group, size, _ = weight.shape
    kernel = torch.zeros_like(weight).flatten(2)
    for o in range(out_channels):
        for i in range(in_of_group):
            depthwise = block.depthwise[o // (out_channels // groups) * in_of_group + i]
            kernel[o, i] = (depthwise + torch.eye(size**2, dtype=torch.float64)) @ weight[o, i].flatten()
    bias = torch.zeros(out_channels, dtype=torch.float64) if block.bias is None else block.bias
    return kernel.view_as(weight), bias


def expandnet_cl(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, middle, last = block.layers
    kernel = composed(first.weight, middle.weight, groups)
    rows = []
    out_of_group = last.out_channels // groups
    for o in range(last.out_channels):
        group = o // out_of_group
        inner = kernel[group * last.weight.shape[1] :][: last.weight.shape[1]]
        rows.append((last.weight[o, :, 0, 0].view(-1, 1, 1, 1) * inner).sum(0))
    bias = torch.zeros(last.out_channels, dtype=torch.float64)
    if first.bias is not None:
        bias = passed_through(first.bias, middle.weight, groups) + middle.bias
        bias = passed_through(bias, last.weight, groups) + last.bias
    return torch.stack(rows), bias


def dirac(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    weight = block.weight
    kernel = torch.zeros_like(weight)
    out_of_group = weight.shape[0] // groups
    for o in range(weight.shape[0]):
        kernel[o] = block.beta[o] * weight[o] / weight[o].norm()
        if o % out_of_group < weight.shape[1]:
            kernel[o, o % out_of_group, weight.shape[2] // 2, weight.shape[3] // 2] += block.alpha[o]
    return kernel, torch.zeros(weight.shape[0], dtype=torch.float64)


def mobileone(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = block.kxk[0].conv.kernel_size[0]
    terms = [fused(branch.conv.weight, branch.norm) for branch in block.kxk]
    if block.point is not None:
        terms.append(fused(block.point.conv.weight, block.point.norm))
    if block.identity is not None:
        terms.append(fused(identity_kernel(len(block.identity.weight), groups, size), block.identity))
    return total(terms, size)


def qarepvgg(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = block.kxk.conv.kernel_size[0]
    zero = torch.zeros(block.point.out_channels, dtype=torch.float64)
    terms = [fused(block.kxk.conv.weight, block.kxk.norm), (block.point.weight, zero)]
    if block.point.in_channels == block.point.out_channels and block.point.stride == (1, 1):
        terms.append((identity_kernel(len(zero), groups, size), zero))
    kernel, bias = total(terms, size)
    t, v = affine(block.norm)
    return kernel * t.view(-1, 1, 1, 1), bias * t + v


def repghost(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    channels, size = block.kxk.conv.out_channels, block.kxk.conv.kernel_size[0]
    terms = [fused(block.kxk.conv.weight, block.kxk.norm)]
    terms.append(fused(identity_kernel(channels, channels, size), block.identity))
    return total(terms, size)


def csla(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    channels, size = block.kxk.out_channels, block.kxk.kernel_size[0]
    kernel = block.kxk_scale_O11.view(-1, 1, 1, 1) * block.kxk.weight
    kernel = kernel + centred(block.point_scale_O11.view(-1, 1, 1, 1) * block.point.weight, size)
    if block.identity_scale_O11 is not None:
        kernel = kernel + block.identity_scale_O11.view(-1, 1, 1, 1) * identity_kernel(channels, groups, size)
    return kernel, torch.zeros(channels, dtype=torch.float64)


def plain(block: nn.Module, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    return fused(block.conv.weight, block.norm)


EQUIVALENT = {
    "acb": acb,
    "csla": csla,
    "dbb": dbb,
    "dirac": dirac,
    "doconv": doconv,
    "expandnet": expandnet_cl,
    "mobileone": mobileone,
    "plain": plain,
    "qarepvgg": qarepvgg,
    "repghost": repghost,
    "repvgg": repvgg,
}
