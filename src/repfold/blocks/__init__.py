"""Training-time structures, one paper a file: ordinary module trees, none of which knows how it folds.

Each is linear in eval mode, has no activation, and takes (in_channels, out_channels, *, kernel_size, stride, dilation,
groups, padding_mode) and its paper's own options; ``Block`` adds the activation and a squeeze-excite.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from repfold.blocks.block import Block
from repfold.blocks.repvgg import RepVGGBlock, RepVGGBranches

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "repvgg": RepVGGBranches,
}

__all__ = ["BLOCKS", "Block", "RepVGGBlock", "RepVGGBranches"]
