"""How timm and pytorchcv name the layers of MobileNets: every layer of ours beside theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from repfold.models.mobilenet import TABLES, MobileNetTable


@dataclass(frozen=True)
class LayerNames:
    """One code base's names of layers, by ours; ``lacks``: tensors of ours that it has not."""

    theirs: Mapping[str, str]
    lacks: frozenset[str] = frozenset()

    def name(self, ours: str) -> str | None:
        """Their name for our tensor; None when they have none."""
        layer, _, tensor = ours.rpartition(".")
        return f"{self.theirs[layer]}.{tensor}" if layer in self.theirs and ours not in self.lacks else None

    def our_name(self, theirs: str) -> str | None:
        """Our name for their tensor; None when it is not of this layout."""
        layer, _, tensor = theirs.rpartition(".")
        return f"{self._ours[layer]}.{tensor}" if layer in self._ours else None

    @cached_property
    def _ours(self) -> dict[str, str]:
        return {theirs: ours for ours, theirs in self.theirs.items()}


# Our layers of a block -> pytorchcv's.
_SEPARABLE = {"conv_dw": "dw_conv.conv", "bn1": "dw_conv.bn", "conv_pw": "pw_conv.conv", "bn2": "pw_conv.bn"}
_FIRST_OF_V2 = {"conv_dw": "conv2.conv", "bn1": "conv2.bn", "conv_pw": "conv3.conv", "bn2": "conv3.bn"}
_RESIDUAL = {
    "conv_pw": "conv1.conv",
    "bn1": "conv1.bn",
    "conv_dw": "conv2.conv",
    "bn2": "conv2.bn",
    "conv_pwl": "conv3.conv",
    "bn3": "conv3.bn",
}
_ENDS = {"conv_stem": "features.init_block.conv", "bn1": "features.init_block.bn", "classifier": "output"}
_HEAD = {"conv_head": "features.final_block.conv", "bn2": "features.final_block.bn"}


def _pytorchcv(table: MobileNetTable) -> dict[str, str]:
    """Its stages begin where the image is halved, and its units count from 1."""
    names = {**_ENDS, **(_HEAD if table.features else {})}
    their_stage, their_unit = 1, 0
    for number, stage in enumerate(table.stages):
        for block in range(stage.depth):
            halves = stage.halves and block == 0
            their_stage, their_unit = (their_stage + 1, 1) if halves else (their_stage, their_unit + 1)
            layers = _RESIDUAL if stage.expansion else _FIRST_OF_V2 if table.residual else _SEPARABLE
            for ours, theirs in layers.items():
                names[f"blocks.{number}.{block}.{ours}"] = f"features.stage{their_stage}.unit{their_unit}.{theirs}"
    return names


def _layouts(table: MobileNetTable) -> dict[str, LayerNames]:
    pytorchcv = _pytorchcv(table)
    lacks = frozenset({"classifier.bias"}) if table.features else frozenset()  # a 1x1 convolution without it
    return {"timm": LayerNames({name: name for name in pytorchcv}), "pytorchcv": LayerNames(pytorchcv, lacks)}


# Layers are the same at every width.
LAYOUTS = {"MobileNetV1": _layouts(TABLES["mobilenetv1"]), "MobileNetV2": _layouts(TABLES["mobilenetv2"])}
