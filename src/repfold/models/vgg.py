"""Plain VGG-like networks of RepVGG's depths and widths: one 3x3 convolution, norm and ReLU per block, no branches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from repfold.models import repvgg


@dataclass(frozen=True)
class VGGTable:
    """The plain form of one member of the RepVGG family."""

    like: repvgg.RepVGGTable

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of stages 1..4."""
        return self.like.widths

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> repvgg.RepVGG:
        """Build the network with fresh weights; ``options`` are those of Style."""
        options = {"block": "plain", **options}
        return self.like.build(num_classes=num_classes, preset=preset, in_channels=in_channels, **options)


TABLES: dict[str, VGGTable] = {
    name.replace("repvgg", "vgg"): VGGTable(table)
    for name, table in repvgg.TABLES.items()
    if table.groups == 1 and table.se is None
}
