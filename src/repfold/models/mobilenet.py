"""MobileNet (Howard et al. 2017) and MobileNetV2 (Sandler et al. 2018): depthwise and pointwise convolutions in turn.

Layers are named as in timm, so that weights published for it fit without a map of names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from repfold.models.presets import strides_of
from repfold.models.resnet import initialise_for_relu
from repfold.models.style import ACTIVATIONS, Style


@dataclass(frozen=True)
class Stage:
    """Blocks in a row: ``expansion`` of the channels inside (0: no inverted residuals, but a pointwise behind each).

    ``channels`` out, at width 1; ``halves``: the first block has stride 2.
    """

    expansion: int
    channels: int
    depth: int
    halves: bool


@dataclass(frozen=True)
class MobileNetTable:
    """One member: its stages, the share ``width`` of their channels (rounded down), and channels before the head.

    ``features`` 0: those of the last stage, else of a pointwise convolution after it, whatever the width.
    ``residual``: V2, with linear bottlenecks; ``activation``: as published.
    """

    stages: tuple[Stage, ...]
    width: float
    features: int
    residual: bool
    activation: str

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(int(stage.channels * self.width) for stage in self.stages)

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> MobileNet:
        """Build the network with fresh weights; ``options``: activation."""
        return MobileNet(self, num_classes=num_classes, preset=preset, in_channels=in_channels, **options)


class MobileNet(nn.Module):
    """Stem, stages of separable blocks, average pool, linear head: [N, in_channels, H, W] -> [N, num_classes]."""

    def __init__(
        self,
        table: MobileNetTable,
        *,
        num_classes: int = 1000,
        preset: str = "imagenet",
        in_channels: int = 3,
        activation: str = "",
    ) -> None:
        super().__init__()
        style = Style("plain", activation or table.activation)  # checks the name
        self.table, self.num_classes, self.preset, self.in_channels = table, num_classes, preset, in_channels
        self.options = style.options(Style("plain", table.activation))
        make_activation = ACTIVATIONS[style.activation]
        stem_stride, *reductions = strides_of(preset)
        width = int(_STEM * table.width)
        self.conv_stem = nn.Conv2d(in_channels, width, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = make_activation()
        stages = []
        for stage, channels in zip(table.stages, table.widths, strict=True):
            stride = reductions.pop(0) if stage.halves else 1
            blocks: list[nn.Module] = []
            for number in range(stage.depth):
                place = (width, channels, stride if number == 0 else 1)
                if stage.expansion:
                    blocks.append(InvertedResidual(*place, expansion=stage.expansion, activation=style.activation))
                else:
                    after = nn.Identity() if table.residual else make_activation()
                    blocks.append(SeparableBlock(*place, activation=style.activation, after=after))
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        features = table.features or width
        self.conv_head = nn.Conv2d(width, features, 1, bias=False) if table.features else nn.Identity()
        self.bn2 = nn.BatchNorm2d(features) if table.features else nn.Identity()
        self.act2 = make_activation() if table.features else nn.Identity()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(features, num_classes)
        initialise_for_relu(self)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> logits [N, num_classes]."""
        x_NCHW = self.blocks(self.act(self.bn1(self.conv_stem(x_NCHW))))
        x_NCHW = self.act2(self.bn2(self.conv_head(x_NCHW)))
        logits_NK: torch.Tensor = self.classifier(torch.flatten(self.global_pool(x_NCHW), 1))
        return logits_NK


class SeparableBlock(nn.Module):
    """after(norm(1x1(act(norm(depthwise 3x3(x)))))): [N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, activation: str, after: nn.Module) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = ACTIVATIONS[activation]()
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = after

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y_NCHW = self.act1(self.bn1(self.conv_dw(x_NCHW)))
        z_NCHW: torch.Tensor = self.act2(self.bn2(self.conv_pw(y_NCHW)))
        return z_NCHW


class InvertedResidual(nn.Module):
    """norm(1x1(act(norm(3x3(act(norm(1x1(x)))))))), plus x where the shape stays; the 3x3 is depthwise.

    ``expansion`` times the channels of x inside.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, expansion: int, activation: str) -> None:
        super().__init__()
        inside = expansion * in_channels
        self.conv_pw = nn.Conv2d(in_channels, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.act1 = ACTIVATIONS[activation]()
        self.conv_dw = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.act2 = ACTIVATIONS[activation]()
        self.conv_pwl = nn.Conv2d(inside, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y_NCHW = self.act1(self.bn1(self.conv_pw(x_NCHW)))
        y_NCHW = self.act2(self.bn2(self.conv_dw(y_NCHW)))
        z_NCHW: torch.Tensor = self.bn3(self.conv_pwl(y_NCHW))
        return x_NCHW + z_NCHW if self.adds else z_NCHW


_STEM = 32

_V1 = (
    Stage(0, 64, 1, halves=False),
    Stage(0, 128, 2, halves=True),
    Stage(0, 256, 2, halves=True),
    Stage(0, 512, 6, halves=True),
    Stage(0, 1024, 2, halves=True),
)
_V2 = (
    Stage(0, 16, 1, halves=False),
    Stage(6, 24, 2, halves=True),
    Stage(6, 32, 3, halves=True),
    Stage(6, 64, 4, halves=True),
    Stage(6, 96, 3, halves=False),
    Stage(6, 160, 3, halves=True),
    Stage(6, 320, 1, halves=False),
)

TABLES: dict[str, MobileNetTable] = {
    **{
        f"mobilenetv1{name}": MobileNetTable(_V1, width, 0, residual=False, activation="relu")
        for name, width in (("", 1.0), ("-x0.25", 0.25))
    },
    **{
        f"mobilenetv2{name}": MobileNetTable(_V2, width, 1280, residual=True, activation="relu6")
        for name, width in (("", 1.0), ("-x0.25", 0.25))
    },
}
