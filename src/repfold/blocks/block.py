"""What every network here is stacked from: a structure that is linear in eval mode, a gate, an activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from repfold.blocks.squeeze_excite import SqueezeExcite
from repfold.errors import RepFoldError

SePlace = Literal["before", "after"]


class Block(nn.Module):
    """y = act(branches(x)): [N, in, H, W] -> [N, out, H', W'], with a squeeze-excite before or after the activation.

    Args:
        branches: the structure that folds to one convolution; one of BLOCKS, say.
        out_channels: its output channels, which the squeeze-excite gates.
        se: squeeze-excite "before" the activation (RepVGG-D2se), "after" it (RepVGG-plus), or none.
        se_ratio: out_channels // se_ratio hidden channels in the squeeze-excite, at least one.
    """

    def __init__(
        self,
        branches: nn.Module,
        out_channels: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        se: SePlace | None = None,
        se_ratio: int = 16,
    ) -> None:
        super().__init__()
        if se not in ("before", "after", None):
            raise RepFoldError(f"se is {se!r}; it is where the squeeze-excite goes: 'before', 'after' or None.")
        hidden = max(1, out_channels // se_ratio)
        self.branches = branches
        self.se_before = SqueezeExcite(out_channels, hidden) if se == "before" else None
        self.activation = activation()
        self.se_after = SqueezeExcite(out_channels, hidden) if se == "after" else None

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y_NCHW: torch.Tensor = self.branches(x_NCHW)
        if self.se_before is not None:
            y_NCHW = self.se_before(y_NCHW)
        y_NCHW = self.activation(y_NCHW)
        if self.se_after is not None:
            y_NCHW = self.se_after(y_NCHW)
        return y_NCHW
