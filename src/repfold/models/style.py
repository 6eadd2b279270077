"""What a network of a family is stacked from: which structure, activation and norm, and its initial weights."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from repfold.blocks import BLOCKS, WITHOUT_NORM, Block
from repfold.blocks.block import SePlace
from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.delta_orthogonal import initialise_delta_orthogonal
from repfold.errors import RepFoldError, nearest

_SLOPE = 0.01  # of the leaky ReLU
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky-relu": lambda: nn.LeakyReLU(_SLOPE),
}
_MOST_BRANCHES = 16
INITS = ("default", "delta-orthogonal")


@dataclass(frozen=True)
class Style:
    """The options that every family takes.

    Args:
        block: a name of BLOCKS; "plain" is a single convolution.
        activation: "relu", "relu6" or "leaky-relu".
        norm: False leaves the BatchNorm out (and gives plain convolutions a bias), for networks trained without any;
            only "plain" and the structures that have none inside can do without.
        init: "default" (PyTorch's, and each paper's own), or "delta-orthogonal" for plain networks.
        branches: full kernels side by side in each "mobileone" block, of which MobileOne-S0 has 4; with one it is a
            RepVGG block.

    Raises: RepFoldError for an unknown name, with the nearest, and for options that exclude each other.
    """

    block: str
    activation: str = "relu"
    norm: bool = True
    init: str = "default"
    branches: int = 1

    def __post_init__(self) -> None:
        for field, known in (("block", BLOCKS), ("activation", ACTIVATIONS), ("init", INITS)):
            value = getattr(self, field)
            if value not in known:
                raise RepFoldError(f"Unknown {field} '{value}'. {nearest(str(value), known)}")
        if not self.norm and self.block not in {"plain", *WITHOUT_NORM}:
            raise RepFoldError(f"Block '{self.block}' has its norms inside its branches: norm=False is for plain ones.")
        if self.init != "default" and self.block != "plain":
            raise RepFoldError(f"init '{self.init}' is for plain networks (block='plain'), not for '{self.block}'.")
        if not isinstance(self.branches, int) or not 1 <= self.branches <= _MOST_BRANCHES:
            raise RepFoldError(f"branches is {self.branches}; it must be a whole number from 1 to {_MOST_BRANCHES}.")
        if self.branches != 1 and self.block != "mobileone":
            raise RepFoldError(f"branches={self.branches} is for block 'mobileone', not for '{self.block}'.")

    def make(
        self,
        in_channels: int,
        out_channels: int,
        *,
        se: SePlace | None = None,
        se_ratio: int = 16,
        **geometry: Any,
    ) -> Block:
        """One block of the network; ``geometry`` as for the structures, with their own options."""
        branches = self._branches(in_channels, out_channels, geometry)
        activation = ACTIVATIONS[self.activation]
        return Block(branches, out_channels, activation=activation, se=se, se_ratio=se_ratio)

    def initialise(self, network: nn.Module) -> None:
        """Give ``network`` its initial weights, where these are not what the layers start with anyway."""
        if self.init == "delta-orthogonal":
            slope = _SLOPE if self.activation == "leaky-relu" else 0.0
            initialise_delta_orthogonal(network, math.sqrt(2 / (1 + slope**2)))

    def options(self, usual: Style) -> dict[str, Any]:
        """The fields that differ from the family's usual style."""
        fields = dataclasses.asdict(self)
        return {key: value for key, value in fields.items() if value != getattr(usual, key)}

    def _branches(self, in_channels: int, out_channels: int, geometry: dict[str, Any]) -> nn.Module:
        if self.block == "plain" and not self.norm:
            return nn.Sequential(OrderedDict(conv=ConvSpec(in_channels, out_channels, **geometry).conv(bias=True)))
        own = {"branches": self.branches} if self.block == "mobileone" else {}
        structure = BLOCKS[self.block](in_channels, out_channels, **{**own, **geometry})
        if self.block in WITHOUT_NORM and self.norm:
            return nn.Sequential(OrderedDict(structure=structure, norm=nn.BatchNorm2d(out_channels)))
        return structure
