"""How other code names the same tensors: RepVGG's authors, timm, Apple's MobileOne, pytorchcv.

Layouts of RepVGG and MobileOne are for train and folded form alike; those of MobileNets are in mobilenet_names.

Every layout is a table of prefixes, read in both directions. Our names: ``stem.<part>``, ``stages.<k>.<j>.<part>``,
``head``, ``auxiliary.<k>.<part>``; a part is branches.kxk, branches.point, branches.identity, branches.conv (folded),
se_before or se_after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from repfold.errors import RepFoldError
from repfold.models import mobilenet_names


class Layout(Protocol):
    """The names of one code base."""

    def name(self, ours: str) -> str | None:
        """Their name for our tensor; None when they have none."""

    def our_name(self, theirs: str) -> str | None:
        """Our name for their tensor; None when it is not of this layout."""


@dataclass(frozen=True)
class KeyMap:
    """One code base's names, each beside ours. ``stages`` are the prefixes of our stages.0, stages.1, ..."""

    stem: str
    stages: tuple[str, ...]
    head: str
    parts: Mapping[str, str]  # our part -> theirs
    auxiliary: Mapping[str, str] | None = None  # our prefix -> theirs

    def name(self, ours: str) -> str | None:
        """Their name for our tensor; None when they have none."""
        for our_prefix, their_prefix in self._whole().items():
            if ours.startswith(our_prefix):
                return _foreign_norm(their_prefix + ours.removeprefix(our_prefix))
        for our_prefix, their_prefix in self._prefixes().items():
            index, part = _split_index(ours, our_prefix)
            for our_part, their_part in self.parts.items():
                if part.startswith(our_part + "."):
                    return _foreign_norm(f"{their_prefix}{index}{their_part}{part.removeprefix(our_part)}")
        return None

    def our_name(self, theirs: str) -> str | None:
        """Our name for their tensor; None when it is not of this layout."""
        for our_prefix, their_prefix in self._whole().items():
            if theirs.startswith(their_prefix):
                return _our_norm(our_prefix + theirs.removeprefix(their_prefix))
        for our_prefix, their_prefix in self._prefixes().items():
            index, part = _split_index(theirs, their_prefix)
            for our_part, their_part in self.parts.items():
                if part.startswith(their_part + "."):
                    return _our_norm(f"{our_prefix}{index}{our_part}{part.removeprefix(their_part)}")
        return None

    def _whole(self) -> dict[str, str]:
        return {"head.": f"{self.head}.", **(self.auxiliary or {})}

    def _prefixes(self) -> dict[str, str]:
        """Our prefix -> theirs, of the blocks."""
        stages = {f"stages.{k}.": f"{theirs}." for k, theirs in enumerate(self.stages)}
        return {"stem.": f"{self.stem}.", **stages}


@dataclass(frozen=True)
class SameNames:
    """A code base whose names are ours: those that begin so."""

    prefixes: tuple[str, ...]

    def name(self, ours: str) -> str | None:
        """Their name for our tensor; None when they have none."""
        return ours if ours.startswith(self.prefixes) else None

    our_name = name


_REPVGG_ORIGINAL = {
    "branches.kxk": "rbr_dense",
    "branches.point": "rbr_1x1",
    "branches.identity": "rbr_identity",
    "branches.conv": "rbr_reparam",
    "se_before": "se",
}
_TIMM_STAGES = tuple(f"stages.{k}" for k in range(4))
_STAGES = tuple(f"stage{k}" for k in range(1, 5))

_TORCHVISION = SameNames(("conv1.", "bn1.", *(f"layer{k}." for k in range(1, 5)), "fc."))

# family -> code base -> layout
KEY_MAPS: dict[str, dict[str, Layout]] = {
    "RepVGG": {
        "original": KeyMap("stage0", _STAGES, "linear", _REPVGG_ORIGINAL),
        "timm": KeyMap(
            "stem",
            _TIMM_STAGES,
            "head.fc",
            {
                "branches.kxk": "conv_kxk",
                "branches.point": "conv_1x1",
                "branches.identity": "identity",
                "branches.conv": "reparam_conv",
                "se_before.down": "attn.fc1",
                "se_before.up": "attn.fc2",
            },
        ),
    },
    "RepVGG-plus": {
        "original": KeyMap(
            "stage0",
            tuple(f"{name}.blocks" for name in ("stage1", "stage2", "stage3_first", "stage3_second", "stage4")),
            "linear",
            {**_REPVGG_ORIGINAL, "se_after": "post_se"},
            {
                f"auxiliary.{k}.{ours}.": f"{stage}_aux.{theirs}."
                for k, stage in enumerate(("stage1", "stage2", "stage3_first"))
                for ours, theirs in (("reduce", "0"), ("linear", "3"))
            },
        ),
    },
    # Ours are torchvision's, and so are timm's.
    "ResNet": {"original": _TORCHVISION, "timm": _TORCHVISION},
    "MobileOne": {
        "apple": KeyMap(
            "stage0",
            _STAGES,
            "linear",
            {
                "branches.kxk": "rbr_conv",
                "branches.point": "rbr_scale",
                "branches.identity": "rbr_skip",
                "branches.conv": "reparam_conv",
                "se_before.down": "se.reduce",
                "se_before.up": "se.expand",
            },
        ),
        "timm": KeyMap(
            "stem",
            _TIMM_STAGES,
            "head.fc",
            {
                "branches.kxk": "conv_kxk",
                "branches.point": "conv_scale",
                "branches.identity": "identity",
                "branches.conv": "reparam_conv",
                "se_before.down": "attn.fc1",
                "se_before.up": "attn.fc2",
            },
        ),
    },
    "MobileNetV1": {**mobilenet_names.LAYOUTS["MobileNetV1"]},
    "MobileNetV2": {**mobilenet_names.LAYOUTS["MobileNetV2"]},
}

State = dict[str, torch.Tensor]


def to_ours(state: Mapping[str, torch.Tensor]) -> list[tuple[str, str, State]]:
    """Every reading of a foreign state_dict in our names: (family, code base, state).

    Folded checkpoints of timm read alike for both families; the shapes tell them apart.
    Raises: RepFoldError that names a key when no layout knows them all.
    """
    readings, unknown = [], {}
    for family, layouts in KEY_MAPS.items():
        for code_base, layout in layouts.items():
            names = {key: layout.our_name(key) for key in state}
            unknown[family, code_base] = [key for key, name in names.items() if name is None]
            if not unknown[family, code_base]:
                readings.append((family, code_base, {str(names[key]): value for key, value in state.items()}))
    if not readings:
        (family, code_base), strange = min(unknown.items(), key=lambda item: len(item[1]))
        raise RepFoldError(
            f"Its names are of no known layout. The closest is {code_base}'s of {family}, which knows no "
            f"'{strange[0]}' ({len(strange)} of {len(state)} names are strange)."
        )
    return readings


def from_ours(state: Mapping[str, torch.Tensor], family: str, code_base: str) -> State:
    """Our state_dict of a ``family`` in the names of ``code_base``.

    Raises: RepFoldError when that code base has no such family, or no name for a tensor.
    """
    if code_base not in KEY_MAPS[family]:
        known = ", ".join([*KEY_MAPS[family], "repfold"])
        raise RepFoldError(f"{family} has no layout '{code_base}'. Known: {known}.")
    layout = KEY_MAPS[family][code_base]
    names = {key: layout.name(key) for key in state}
    if lost := [key for key, name in names.items() if name is None]:
        raise RepFoldError(f"'{lost[0]}' has no name in {code_base}'s layout of {family}: it is not that network.")
    return {str(names[key]): value for key, value in state.items()}


def _split_index(name: str, prefix: str) -> tuple[str, str]:
    """Split "stages.2.7.rest" behind "stages.2." into "7." and "rest"; "stem.rest" into "" and "rest"."""
    if not name.startswith(prefix):
        return "", ""
    rest = name.removeprefix(prefix)
    number, _, part = rest.partition(".")
    return (f"{number}.", part) if number.isdigit() else ("", rest)


def _foreign_norm(name: str) -> str:
    return name.replace(".norm.", ".bn.")


def _our_norm(name: str) -> str:
    return name.replace(".bn.", ".norm.")
