"""Training-time structures, one paper per file: ordinary module trees, none of which knows how it folds.

Each is linear in eval mode, has no activation, and takes (in_channels, out_channels, *, kernel_size, stride, dilation,
groups, padding_mode) and its paper's own options, and says beside its forward what ``structure`` asks of it: whether it
has norms, and which of its parameters equal a given convolution. ``Block`` adds the activation and a squeeze-excite.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from repfold.blocks.acb import ACB
from repfold.blocks.block import Block
from repfold.blocks.conv_norm import plain
from repfold.blocks.csla import CSLABranches
from repfold.blocks.dbb import DBB
from repfold.blocks.dirac import DiracConv2d
from repfold.blocks.doconv import DOConv2d
from repfold.blocks.expandnet import ExpandConv2d, ExpandLinear
from repfold.blocks.mobileone import MobileOneBranches
from repfold.blocks.qarepvgg import QARepVGGBranches
from repfold.blocks.repghost import RepGhostBranches
from repfold.blocks.repvgg import RepVGGBlock, RepVGGBranches
from repfold.blocks.structure import Inverse, Invertible, Structure

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "acb": ACB,
    "csla": CSLABranches,
    "dbb": DBB,
    "dirac": DiracConv2d,
    "doconv": DOConv2d,
    "expandnet": ExpandConv2d,
    "mobileone": MobileOneBranches,
    "plain": plain,
    "qarepvgg": QARepVGGBranches,
    "repghost": RepGhostBranches,
    "repvgg": RepVGGBranches,
}

# By name; "plain" is a convolution as it is.
STRUCTURES: dict[str, type[Structure]] = {
    name: block for name, block in BLOCKS.items() if isinstance(block, type) and issubclass(block, Structure)
}

# These have no BatchNorm inside: a network puts one behind them.
WITHOUT_NORM = frozenset(name for name, structure in STRUCTURES.items() if not structure.has_norms)

__all__ = [
    "ACB",
    "BLOCKS",
    "DBB",
    "STRUCTURES",
    "WITHOUT_NORM",
    "Block",
    "CSLABranches",
    "DOConv2d",
    "DiracConv2d",
    "ExpandConv2d",
    "ExpandLinear",
    "Inverse",
    "Invertible",
    "MobileOneBranches",
    "QARepVGGBranches",
    "RepGhostBranches",
    "RepVGGBlock",
    "RepVGGBranches",
    "Structure",
    "plain",
]
