"""Residual networks (He et al. 2016): the ImageNet ones, and those for images of 32 px.

Layers are named as in torchvision and timm, so that weights published for them fit without a map of names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from repfold.models.presets import strides_of
from repfold.models.style import ACTIVATIONS, Style


@dataclass(frozen=True)
class ResNetTable:
    """One member of the family.

    ``bottleneck``: blocks 1x1, 3x3, 1x1 with four times ``widths`` channels out, else 3x3, 3x3. ``small``: for images
    of about 32 px whatever the preset. ``parameter_free``: shortcuts that change the shape take every other pixel and
    add channels of zeros (option A), else they are 1x1 convolutions with a norm (option B). ``variant_d`` (He et al.
    2019, "Bag of Tricks"; ResNet_vd): a stem of three 3x3, and shortcuts that average 2x2 pixels before their 1x1.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    bottleneck: bool = False
    small: bool = False
    parameter_free: bool = False
    variant_d: bool = False

    @property
    def features(self) -> int:
        """Channels before the classifier."""
        return self.widths[-1] * (_EXPANSION if self.bottleneck else 1)

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> ResNet:
        """Build the network with fresh weights; ``options``: activation."""
        return ResNet(self, num_classes=num_classes, preset=preset, in_channels=in_channels, **options)


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pool, linear head: [N, in_channels, H, W] -> [N, num_classes].

    The stem is 7x7 (variant D: three 3x3) of stride 2 and a max-pool, or in the preset "32px" and for small tables 3x3
    of stride 1.
    """

    def __init__(
        self,
        table: ResNetTable,
        *,
        num_classes: int = 1000,
        preset: str = "imagenet",
        in_channels: int = 3,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        style = Style("plain", activation)  # checks the name
        self.table, self.num_classes, self.preset, self.in_channels = table, num_classes, preset, in_channels
        self.options = style.options(Style("plain"))
        small = table.small or strides_of(preset)[0] == 1
        width = table.widths[0]
        self.conv1 = _stem(table, in_channels, small, activation)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = ACTIVATIONS[activation]()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages: list[str] = []
        for index, (depth, stage_width) in enumerate(zip(table.depths, table.widths, strict=True)):
            blocks: list[nn.Module] = []
            for number in range(depth):
                stride = 2 if index > 0 and number == 0 else 1
                blocks.append(_block(table, width, stage_width, stride, activation))
                width = stage_width * (_EXPANSION if table.bottleneck else 1)
            self.stages.append(f"layer{index + 1}")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        initialise_for_relu(self)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> logits [N, num_classes]."""
        x_NCHW = self.maxpool(self.relu(self.bn1(self.conv1(x_NCHW))))
        for stage in self.stages:
            x_NCHW = self.get_submodule(stage)(x_NCHW)
        logits_NK: torch.Tensor = self.fc(torch.flatten(self.avgpool(x_NCHW), 1))
        return logits_NK


class BasicBlock(nn.Module):
    """act(norm(3x3(act(norm(3x3(x))))) + shortcut(x)): [N, in, H, W] -> [N, width, ceil(H/stride), ceil(W/stride)]."""

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = ACTIVATIONS[activation]()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y_NCHW = self.relu(self.bn1(self.conv1(x_NCHW)))
        z_NCHW: torch.Tensor = self.relu(self.bn2(self.conv2(y_NCHW)) + self.downsample(x_NCHW))
        return z_NCHW


_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1 to ``width`` channels, 3x3 with the stride, 1x1 to four times as many, plus the shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, _EXPANSION * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(_EXPANSION * width)
        self.relu = ACTIVATIONS[activation]()
        self.downsample = shortcut

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y_NCHW = self.relu(self.bn1(self.conv1(x_NCHW)))
        y_NCHW = self.relu(self.bn2(self.conv2(y_NCHW)))
        z_NCHW: torch.Tensor = self.relu(self.bn3(self.conv3(y_NCHW)) + self.downsample(x_NCHW))
        return z_NCHW


class PaddedShortcut(nn.Module):
    """Every ``stride``-th pixel, and channels of zeros before and after those that there are; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        before = (out_channels - in_channels) // 2
        self.stride, self.channels = stride, (before, out_channels - in_channels - before)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W'], the added channels zero."""
        return functional.pad(x_NCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.channels))


def _stem(table: ResNetTable, in_channels: int, small: bool, activation: str) -> nn.Module:
    width, stride = table.widths[0], 1 if small else 2
    if not table.variant_d:
        kernel_size = 3 if small else 7
        return nn.Conv2d(in_channels, width, kernel_size, stride, padding=kernel_size // 2, bias=False)
    layers: list[nn.Module] = []
    for channels, out_channels in ((in_channels, width // 2), (width // 2, width // 2)):
        conv = nn.Conv2d(channels, out_channels, 3, 1 if layers else stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(out_channels), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Conv2d(width // 2, width, 3, padding=1, bias=False))


def _block(table: ResNetTable, in_channels: int, width: int, stride: int, activation: str) -> nn.Module:
    kind: Callable[..., nn.Module] = Bottleneck if table.bottleneck else BasicBlock
    out_channels = width * (_EXPANSION if table.bottleneck else 1)
    return kind(in_channels, width, stride, _shortcut(table, in_channels, out_channels, stride), activation)


def _shortcut(table: ResNetTable, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if table.parameter_free:
        return PaddedShortcut(in_channels, out_channels, stride)
    if table.variant_d:
        pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        return nn.Sequential(pool, conv, nn.BatchNorm2d(out_channels))
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def initialise_for_relu(network: nn.Module) -> None:
    """Draw convolutions so that variances are kept backwards through ReLUs (He et al. 2015), group by group."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.groups > 1:  # an input pixel reaches the channels of its group alone
                layer.weight.data *= math.sqrt(layer.groups)


_RESNET18 = ResNetTable((2, 2, 2, 2))
_RESNET20 = ResNetTable((3, 3, 3), (16, 32, 64), small=True, parameter_free=True)

TABLES: dict[str, ResNetTable] = {
    "resnet18": _RESNET18,
    "resnet34": ResNetTable((3, 4, 6, 3)),
    "resnet50": ResNetTable((3, 4, 6, 3), bottleneck=True),
    "resnet50-vd": ResNetTable((3, 4, 6, 3), bottleneck=True, variant_d=True),
    "resnet18-cifar": dataclasses.replace(_RESNET18, small=True),
    "resnet20-cifar": _RESNET20,
    "resnet56-cifar": dataclasses.replace(_RESNET20, depths=(9, 9, 9)),
}
