"""The MobileOne family (Vasu et al. 2022): depthwise and pointwise blocks in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from repfold.blocks import Block
from repfold.blocks.block import SePlace
from repfold.models.presets import strides_of
from repfold.models.style import Style

DEPTHS = (2, 8, 10, 1)
_USUAL = Style("mobileone")


@dataclass(frozen=True)
class MobileOneTable:
    """One member of the family.

    ``multipliers`` scale the stage widths (64, 128, 256, 512), ``branches`` is the number of full kernels per block
    (one in the stem), ``gated`` how many pairs of blocks at the end of each stage have a squeeze-excite.
    """

    multipliers: tuple[float, float, float, float]
    branches: int = 1
    gated: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of stages 1..4."""
        return tuple(int(width * by) for width, by in zip((64, 128, 256, 512), self.multipliers, strict=True))

    @property
    def features(self) -> int:
        """Channels before the classifier."""
        return self.widths[-1]

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> MobileOne:
        """Build the network with fresh weights; ``options`` are those of Style."""
        return MobileOne(self, num_classes=num_classes, preset=preset, in_channels=in_channels, **options)


class MobileOne(nn.Module):
    """Stem, four stages of block pairs, global average pool, linear head: [N, in, H, W] -> [N, num_classes].

    Another ``block`` than "mobileone" replaces every structure; the pointwise ones are then plain.
    """

    def __init__(
        self,
        table: MobileOneTable,
        *,
        num_classes: int = 1000,
        preset: str = "imagenet",
        in_channels: int = 3,
        block: str = _USUAL.block,
        **options: Any,
    ) -> None:
        super().__init__()
        style = Style(block, **options)
        self.table, self.num_classes, self.preset, self.in_channels = table, num_classes, preset, in_channels
        self.options = style.options(_USUAL)
        stem_stride, *stage_strides = strides_of(preset)
        width_in = min(64, table.widths[0])
        self.stem = style.make(in_channels, width_in, stride=stem_stride)
        stages = []
        for depth, width, gated, first_stride in zip(DEPTHS, table.widths, table.gated, stage_strides, strict=True):
            blocks: list[Block] = []
            for position in range(depth):
                stride = first_stride if position == 0 else 1
                blocks += _pair(style, table, width_in, width, stride, gate=position >= depth - gated)
                width_in = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width_in, num_classes)
        style.initialise(self)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> logits [N, num_classes]."""
        x_NCHW = self.stages(self.stem(x_NCHW))
        logits_NK: torch.Tensor = self.head(torch.flatten(self.pool(x_NCHW), 1))
        return logits_NK


def _pair(
    style: Style, table: MobileOneTable, in_channels: int, out_channels: int, stride: int, *, gate: bool
) -> tuple[Block, Block]:
    """A depthwise block, then a pointwise one."""
    own = {"branches": table.branches} if style.block == "mobileone" else {}
    pointwise_style = style if style.block == "mobileone" else Style("plain", style.activation, style.norm)
    se: SePlace | None = "before" if gate else None
    depthwise = style.make(in_channels, in_channels, stride=stride, groups=in_channels, se=se, **own)
    pointwise = pointwise_style.make(in_channels, out_channels, kernel_size=1, se=se, **own)
    return depthwise, pointwise


TABLES: dict[str, MobileOneTable] = {
    "mobileone-s0": MobileOneTable((0.75, 1, 1, 2), branches=4),
    "mobileone-s1": MobileOneTable((1.5, 1.5, 2, 2.5)),
    "mobileone-s2": MobileOneTable((1.5, 2, 2.5, 4)),
    "mobileone-s3": MobileOneTable((2, 2.5, 3, 4)),
    "mobileone-s4": MobileOneTable((3, 3.5, 3.5, 4), gated=(0, 0, 5, 1)),
}
