"""The RepVGG family: tables of depths and widths, and the one network that they parametrize."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from repfold.blocks import Block
from repfold.blocks.block import SePlace
from repfold.blocks.conv_norm import conv_norm
from repfold.errors import RepFoldError
from repfold.models.presets import strides_of
from repfold.models.style import Style

_USUAL = Style("repvgg")

# The networks named g2 and g4 group the blocks with these indices, counted through the whole network, the stem as 0: of
# an A network up to 20, the 21st layer.
GROUPED_BLOCKS = frozenset(range(2, 27, 2))


@dataclass(frozen=True)
class RepVGGTable:
    """One member of the family.

    ``multipliers`` scale the stage widths (64, 128, 256, 512). ``auxiliary`` splits stage 3 in two halves and puts a
    classifier, used only in training, after stage 1, stage 2 and the first half of stage 3.
    """

    depths: tuple[int, int, int, int]
    multipliers: tuple[float, float, float, float]
    groups: int = 1
    se: SePlace | None = None
    se_ratio: int = 16
    auxiliary: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of stages 1..4."""
        return tuple(int(width * by) for width, by in zip((64, 128, 256, 512), self.multipliers, strict=True))

    @property
    def features(self) -> int:
        """Channels before the classifier."""
        return self.widths[-1]

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> RepVGG:
        """Build the network with fresh weights; ``options`` are those of Style."""
        return RepVGG(self, num_classes=num_classes, preset=preset, in_channels=in_channels, **options)


class RepVGG(nn.Module):
    """Stem, four stages of blocks, global average pool, linear head: [N, in_channels, H, W] -> [N, num_classes].

    ``depth`` makes a network of so many layers with weights (stem, blocks and head), its blocks shared out among the
    stages but the last in the table's proportions.

    With auxiliary heads, and in train mode only, ``forward`` returns the tuple (logits, auxiliary logits...), each
    [N, num_classes], in the order of the stages; the paper weighs each auxiliary loss by 0.1. In eval mode the
    heads are not run, so a traced or folded network does not hold them.
    """

    def __init__(
        self,
        table: RepVGGTable,
        *,
        num_classes: int = 1000,
        preset: str = "imagenet",
        in_channels: int = 3,
        block: str = _USUAL.block,
        depth: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        style = Style(block, **options)
        self.table, self.num_classes, self.preset, self.in_channels = table, num_classes, preset, in_channels
        self.options = {**style.options(_USUAL), **({"depth": depth} if depth else {})}
        depths = list(_depths(table, depth) if depth else table.depths)
        widths, first_strides = list(table.widths), list(strides_of(preset))
        if table.auxiliary:  # stage 3 in two halves, so that a head fits between
            depths[2:3] = [depths[2] // 2, depths[2] - depths[2] // 2]
            widths[2:3] = [widths[2], widths[2]]
            first_strides[4:4] = [1]
        stem_width = min(64, widths[0])
        # A running count of blocks decides which are grouped.
        self.stem = _block(style, table, 0, in_channels, stem_width, first_strides[0])
        index, width_in = 1, stem_width
        stages = []
        for depth, width, first_stride in zip(depths, widths, first_strides[1:], strict=True):
            blocks = []
            for position in range(depth):
                blocks.append(_block(style, table, index, width_in, width, first_stride if position == 0 else 1))
                index, width_in = index + 1, width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], num_classes)
        headed = widths[:3] if table.auxiliary else []
        self.auxiliary = nn.ModuleList(_auxiliary_head(width, num_classes) for width in headed)
        style.initialise(self)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """[N, C, H, W] -> logits [N, num_classes]; in training those of the auxiliary heads after them."""
        x_NCHW = self.stem(x_NCHW)
        auxiliary_logits = []
        for index, stage in enumerate(self.stages):
            x_NCHW = stage(x_NCHW)
            if self.training and index < len(self.auxiliary):
                auxiliary_logits.append(self.auxiliary[index](x_NCHW))
        logits = self.head(torch.flatten(self.pool(x_NCHW), 1))
        return (logits, *auxiliary_logits) if auxiliary_logits else logits


_DEEPEST = 1000  # layers: a model file may ask for any number


def _depths(table: RepVGGTable, depth: int) -> tuple[int, ...]:
    """Blocks of each stage of a network of ``depth`` layers: the last stage's as they are, the others' by their share.

    Raises: RepFoldError for too few for a block in each stage, and too many.
    """
    *shared, last = table.depths
    blocks = depth - 2 - last  # without the stem, the head and the last stage
    if not isinstance(depth, int) or not len(shared) <= blocks or depth > _DEEPEST:
        least = len(shared) + 2 + last
        raise RepFoldError(f"depth is {depth}; it must be a whole number of layers from {least} to {_DEEPEST}.")
    depths: list[int] = []
    for index in range(len(shared)):
        end = round(blocks * sum(shared[: index + 1]) / sum(shared))
        after = len(shared) - index - 1  # stages that still need a block
        depths.append(min(max(end - sum(depths), 1), blocks - sum(depths) - after))
    return *depths, last


def _block(style: Style, table: RepVGGTable, index: int, in_channels: int, out_channels: int, stride: int) -> Block:
    groups = table.groups if index in GROUPED_BLOCKS else 1
    return style.make(in_channels, out_channels, stride=stride, groups=groups, se=table.se, se_ratio=table.se_ratio)


def _auxiliary_head(width: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            reduce=conv_norm(width, width, 3, stride=2, padding=1),
            activation=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(width, num_classes),
        )
    )


TABLES: dict[str, RepVGGTable] = {
    # For images of 8 to 32 px, where the family's smallest published member is far too large.
    "repvgg-pico": RepVGGTable((1, 2, 2, 1), (0.25, 0.25, 0.25, 0.25)),
    "repvgg-a0": RepVGGTable((2, 4, 14, 1), (0.75, 0.75, 0.75, 2.5)),
    "repvgg-a0g2": RepVGGTable((2, 4, 14, 1), (0.75, 0.75, 0.75, 2.5), groups=2),
    "repvgg-a0g4": RepVGGTable((2, 4, 14, 1), (0.75, 0.75, 0.75, 2.5), groups=4),
    "repvgg-a1": RepVGGTable((2, 4, 14, 1), (1, 1, 1, 2.5)),
    "repvgg-a1g2": RepVGGTable((2, 4, 14, 1), (1, 1, 1, 2.5), groups=2),
    "repvgg-a1g4": RepVGGTable((2, 4, 14, 1), (1, 1, 1, 2.5), groups=4),
    "repvgg-a2": RepVGGTable((2, 4, 14, 1), (1.5, 1.5, 1.5, 2.75)),
    "repvgg-a2g2": RepVGGTable((2, 4, 14, 1), (1.5, 1.5, 1.5, 2.75), groups=2),
    "repvgg-a2g4": RepVGGTable((2, 4, 14, 1), (1.5, 1.5, 1.5, 2.75), groups=4),
    "repvgg-b0": RepVGGTable((4, 6, 16, 1), (1, 1, 1, 2.5)),
    "repvgg-b1": RepVGGTable((4, 6, 16, 1), (2, 2, 2, 4)),
    "repvgg-b1g2": RepVGGTable((4, 6, 16, 1), (2, 2, 2, 4), groups=2),
    "repvgg-b1g4": RepVGGTable((4, 6, 16, 1), (2, 2, 2, 4), groups=4),
    "repvgg-b2": RepVGGTable((4, 6, 16, 1), (2.5, 2.5, 2.5, 5)),
    "repvgg-b2g2": RepVGGTable((4, 6, 16, 1), (2.5, 2.5, 2.5, 5), groups=2),
    "repvgg-b2g4": RepVGGTable((4, 6, 16, 1), (2.5, 2.5, 2.5, 5), groups=4),
    "repvgg-b3": RepVGGTable((4, 6, 16, 1), (3, 3, 3, 5)),
    "repvgg-b3g2": RepVGGTable((4, 6, 16, 1), (3, 3, 3, 5), groups=2),
    "repvgg-b3g4": RepVGGTable((4, 6, 16, 1), (3, 3, 3, 5), groups=4),
    "repvgg-d2se": RepVGGTable((8, 14, 24, 1), (2.5, 2.5, 2.5, 5), se="before", se_ratio=16),
    "repvgg-plus-l2pse": RepVGGTable((8, 14, 24, 1), (2.5, 2.5, 2.5, 5), se="after", se_ratio=4, auxiliary=True),
}
