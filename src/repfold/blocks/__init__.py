"""Training-time blocks, one paper a file: ordinary module trees, none of which knows how it folds."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from repfold.blocks.repvgg import RepVGGBlock

# name -> block(in_channels, out_channels, *, stride=1, groups=1, ...)
BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "repvgg": RepVGGBlock,
}

__all__ = ["BLOCKS", "RepVGGBlock"]
