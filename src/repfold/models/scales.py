"""The scales of RepOpt networks: searched for in one network, constants of the optimizer of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from repfold.errors import RepFoldError

BRANCHES = ("kxk", "point", "identity")  # the names of a block's scales in files


@dataclass(frozen=True)
class BlockScales:
    """One value per channel for the full kernel (s), the 1x1 (t) and, where there is one, the identity (u)."""

    kxk_O: Tensor
    point_O: Tensor
    identity_O: Tensor | None = None


@dataclass(frozen=True)
class Scales:
    """The scales of every block, in the order of the network, by the block's path: stem, stages.0.0, ..."""

    blocks: Mapping[str, BlockScales]

    def tensors(self) -> dict[str, Tensor]:
        """``<block>.<branch>`` -> [O]."""
        return {
            f"{path}.{branch}": value
            for path, block in self.blocks.items()
            for branch, value in zip(BRANCHES, (block.kxk_O, block.point_O, block.identity_O), strict=True)
            if value is not None
        }


def check_fit(scales: Scales, expected: Scales, network: str) -> None:
    """Raises: RepFoldError when ``scales`` are not of the blocks and channels of ``expected``, or not finite."""
    if len(scales.blocks) != len(expected.blocks):
        raise RepFoldError(
            f"the scales are of a network of {len(scales.blocks)} blocks, but {network} has {len(expected.blocks)}. "
            f"Search with {network}-hs, or take scales of the same depths."
        )
    pairs = zip(scales.blocks.items(), expected.blocks.items(), strict=True)
    for (path, given), (own_path, wanted) in pairs:
        if len(given.kxk_O) != len(wanted.kxk_O):
            raise RepFoldError(
                f"the scales of block {path} are for {len(given.kxk_O)} channels, but {network} has "
                f"{len(wanted.kxk_O)} in {own_path}. Search with {network}-hs, or take scales of the same widths."
            )
        if (given.identity_O is None) != (wanted.identity_O is None):
            having = "no identity" if given.identity_O is None else "an identity"
            raise RepFoldError(
                f"the scales are of a network that has {having} in block {path}, unlike {network} here: its strides "
                "were others. Search with the preset that the target is trained with."
            )
    for name, value in scales.tensors().items():
        if not bool(value.isfinite().all()):
            raise RepFoldError(f"the scale {name} is not finite: the search diverged. Take those of an earlier epoch.")
