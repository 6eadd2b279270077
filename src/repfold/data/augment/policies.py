"""Augmentation by policy: AutoAugment, RandAugment and TrivialAugment, with operations drawn for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from repfold.data.augment.augmentation import Augmentation, require
from repfold.data.augment.color import BLENDS, TABLES, from_levels, look_up, to_levels
from repfold.data.augment.draws import Draws
from repfold.data.augment.geometry import AFFINES, sample_nearest
from repfold.data.augment.masks import GRAY
from repfold.data.augment.subpolicies import SUBPOLICIES
from repfold.errors import RepFoldError, nearest

# The amount of an operation, from its strength in [0, 1] and a random sign.
Amount = Callable[[Tensor, Tensor], Tensor]


def _signed(full: float) -> Amount:
    return lambda strength, sign: sign * strength * full


def _factor(full: float) -> Amount:
    return lambda strength, sign: 1 + sign * strength * full


def _down(top: float, bottom: float) -> Amount:
    return lambda strength, sign: top + (bottom - top) * strength


def _space(shear: float, shift: float, turn: float, factor: float, bits: float) -> dict[str, Amount]:
    return {
        "identity": _factor(0),
        "shear-x": _signed(shear),
        "shear-y": _signed(shear),
        "translate-x": _signed(shift),
        "translate-y": _signed(shift),
        "rotate": _signed(turn),
        "brightness": _factor(factor),
        "colour": _factor(factor),
        "contrast": _factor(factor),
        "sharpness": _factor(factor),
        "posterize": _down(8, bits),
        "solarize": _down(256, 0),
        "autocontrast": _factor(0),
        "equalize": _factor(0),
    }


# AutoAugment's ranges, which RandAugment shares, and TrivialAugment's wide ones; shifts are shares of the side.
STANDARD = _space(shear=0.3, shift=150 / 331, turn=30, factor=0.9, bits=4)
WIDE = _space(shear=0.99, shift=32 / 224, turn=135, factor=0.99, bits=2)
WITH_INVERT = {**STANDARD, "invert": _factor(0)}


@dataclass(frozen=True)
class RandAugment(Augmentation):
    """``layers`` operations in turn, each drawn from 14, all at the strength ``magnitude`` of 10 (Cubuk et al. 2020).

    10 is the strongest that AutoAugment uses; some libraries divide by 30 instead, so that their 9 is 3 here.
    """

    name: ClassVar[str] = "randaugment"
    layers: int = 2
    magnitude: float = 9.0
    fill: int = GRAY

    def __post_init__(self) -> None:
        require(self.layers >= 1, f"randaugment: layers={self.layers} must be at least 1.")
        require(0 <= self.magnitude <= 10, f"randaugment: magnitude={self.magnitude} must lie in [0, 10].")

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images after their operations; float images pass through 256 levels."""
        x, names = to_levels(x_NCHW), tuple(STANDARD)
        strength = torch.full((draws.count,), self.magnitude / 10)
        for _ in range(self.layers):
            x = operate(x, draws.integers(len(names)), strength, draws.signs(), STANDARD, self.fill)
        return from_levels(x, x_NCHW)


@dataclass(frozen=True)
class TrivialAugment(Augmentation):
    """One operation drawn from 14, at a strength drawn from 31, of wide ranges (Müller and Hutter 2021)."""

    name: ClassVar[str] = "trivialaugment"
    fill: int = GRAY

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images after their operation; float images pass through 256 levels."""
        operation, strength = draws.integers(len(WIDE)), draws.integers(31) / 30
        x = operate(to_levels(x_NCHW), operation, strength, draws.signs(), WIDE, self.fill)
        return from_levels(x, x_NCHW)


@dataclass(frozen=True)
class AutoAugment(Augmentation):
    """One of the 25 learned pairs of operations of ``policy``, "imagenet" or "cifar10" (Cubuk et al. 2019)."""

    name: ClassVar[str] = "autoaugment"
    policy: str = "imagenet"
    fill: int = GRAY

    def __post_init__(self) -> None:
        if self.policy not in SUBPOLICIES:
            raise RepFoldError(f"autoaugment: unknown policy '{self.policy}'. {nearest(self.policy, SUBPOLICIES)}")

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images after their pair of operations; float images pass through 256 levels."""
        names = list(WITH_INVERT)
        pairs = SUBPOLICIES[self.policy]
        pair_B, x = draws.integers(len(pairs)), to_levels(x_NCHW)
        for index in range(2):
            operation = torch.tensor([names.index(pair[index][0]) for pair in pairs])[pair_B]
            probability = torch.tensor([pair[index][1] for pair in pairs])[pair_B]
            strength = torch.tensor([pair[index][2] / 9 for pair in pairs])[pair_B]
            operation[draws.uniform() >= probability] = names.index("identity")
            x = operate(x, operation, strength, draws.signs(), WITH_INVERT, self.fill)
        return from_levels(x, x_NCHW)


def operate(
    x: Tensor, operation_B: Tensor, strength_B: Tensor, sign_B: Tensor, space: Mapping[str, Amount], fill: int
) -> Tensor:
    """Return uint8 images, image b after the operation numbered ``operation_B[b]`` in ``space``.

    All affine maps go through one sampling and all tables through one look-up, of the images concerned only.
    """
    names = tuple(space)
    rows = {names[index]: (operation_B == index).nonzero()[:, 0] for index in operation_B.unique().tolist()}
    amounts = {name: space[name](strength_B[row], sign_B[row]) for name, row in rows.items()}
    result = x.clone()

    height, width = x.shape[-2:]
    moved = [name for name in rows if name in AFFINES]
    if moved:
        row = torch.cat([rows[name] for name in moved]).to(x.device)
        affine = torch.cat([AFFINES[name](amounts[name], height, width) for name in moved])
        result[row] = sample_nearest(x[row], affine, fill)

    mapped = [name for name in rows if name in TABLES]
    if mapped:
        pieces = [(x[rows[name].to(x.device)], TABLES[name], amounts[name].to(x.device)) for name in mapped]
        table = torch.cat([make(images, amount).expand(-1, x.shape[1], -1) for images, make, amount in pieces])
        row = torch.cat([rows[name] for name in mapped]).to(x.device)
        result[row] = look_up(torch.cat([images for images, _, _ in pieces]), table)

    for name in (name for name in rows if name in BLENDS):
        row = rows[name].to(x.device)
        result[row] = BLENDS[name](x[row], amounts[name].to(x.device))
    return result
