"""RepOpt-VGG (Ding et al. 2022, "Re-parameterizing Your Optimizers rather than Architectures").

The target networks are plain; their hyper-search networks (-hs) have the branches whose trained scales become the
constants of the optimizer that the target is trained with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from repfold import norms
from repfold.blocks import CSLABranches
from repfold.errors import RepFoldError
from repfold.models import repvgg
from repfold.models.repvgg import RepVGG, RepVGGTable
from repfold.models.scales import BlockScales, Scales, check_fit

_STRUCTURE = ".branches.structure"  # where a block of csla and norm keeps the former


@dataclass(frozen=True)
class RepOptTable:
    """One member of the family: a target network, or the network that searches its scales."""

    like: RepVGGTable
    role: Literal["target", "search"]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of stages 1..4."""
        return self.like.widths

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> RepVGG:
        """Build the network with fresh weights; ``options`` are those of Style."""
        block = {"target": "plain", "search": "csla"}[self.role]
        options = {"block": block, **options}
        network = self.like.build(num_classes=num_classes, preset=preset, in_channels=in_channels, **options)
        network.table = self  # type: ignore[assignment]
        if self.role == "search":
            _set(network, initial_scales(network))
            for branches in csla_blocks(network).values():
                branches.search_scales()
        return network


def csla_blocks(network: nn.Module) -> dict[str, CSLABranches]:
    """The blocks of constant-scale branches, in order, by their path: stem, stages.0.0, ..."""
    found = ((name, module) for name, module in network.named_modules() if isinstance(module, CSLABranches))
    return {name.removesuffix(_STRUCTURE): module for name, module in found}


def target_name(name: str) -> str:
    """From a parameter's name in the folded branch network to that in the target network."""
    return name.replace(f"{_STRUCTURE}.conv.", ".branches.conv.")


def branch_network(target: RepVGG, scales: Scales | None = None) -> RepVGG:
    """The network of constant-scale branches, with fresh weights, whose fold has the shape of ``target``.

    Without scales those are taken that a hyper-search begins with.
    Raises: RepFoldError when the scales are of another architecture or not finite.
    """
    table = target.table
    assert isinstance(table, RepOptTable)
    if target.options.get("block") != "plain" or target.options.get("norm") is False:
        raise RepFoldError(
            f"{_name(table)} with options {target.options} is no target of a hyper-search: its blocks are one "
            "convolution and a norm each. Leave the options block and norm=false."
        )
    options = {**target.options, "block": "csla"}
    norm = options.pop("norm", None)
    network = table.like.build(
        num_classes=target.num_classes, preset=target.preset, in_channels=target.in_channels, **options
    )
    if norm is not None:
        network = cast(RepVGG, norms.replace(network, norm))
    if scales is None:
        scales = initial_scales(network)
    check_fit(scales, initial_scales(network), _name(table))
    _set(network, scales)
    return network


def initial_scales(network: nn.Module) -> Scales:
    """s = t = sqrt(2/i) for block i = 1, 2, ... of a stage, 1 for its first block and the stem; u = 1 (section 4.1)."""
    found = {}
    for name, branches in csla_blocks(network).items():
        channels = branches.kxk.out_channels
        _, _, last = name.rpartition(".")
        index = int(last) if last.isdigit() else 0
        value_O = torch.full((channels,), math.sqrt(2 / index) if index else 1.0)
        identity_O = None if branches.identity_scale_O11 is None else torch.ones(channels)
        found[name] = BlockScales(value_O, value_O.clone(), identity_O)
    return Scales(found)


@torch.no_grad()
def _set(network: nn.Module, scales: Scales) -> None:
    blocks = csla_blocks(network)
    for branches, given in zip(blocks.values(), scales.blocks.values(), strict=True):
        pairs = (
            (branches.kxk_scale_O11, given.kxk_O),
            (branches.point_scale_O11, given.point_O),
            (branches.identity_scale_O11, given.identity_O),
        )
        for own, value in pairs:
            if own is not None and value is not None:
                own.copy_(value.view(-1, 1, 1))


def _name(table: RepOptTable) -> str:
    return next((name for name, known in TABLES.items() if known == table), "this network")


_WIDTHS: Mapping[str, RepVGGTable] = {
    **{name: repvgg.TABLES[f"repvgg-{name}"] for name in ("pico", "a0", "a1", "a2", "b0", "b1", "b2")},
    "l1": RepVGGTable((8, 14, 24, 1), (2, 2, 2, 4)),
    "l2": RepVGGTable((8, 14, 24, 1), (2.5, 2.5, 2.5, 5)),
}

TABLES: dict[str, RepOptTable] = {
    **{f"repopt-vgg-{name}": RepOptTable(table, "target") for name, table in _WIDTHS.items()},
    **{f"repopt-vgg-{name}-hs": RepOptTable(table, "search") for name, table in _WIDTHS.items()},
}
