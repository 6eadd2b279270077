"""The leaves of whatever a network returns, and how far two networks' returns are apart: nothing is left out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Incomparable(Exception):
    """The two returns differ in something that has no distance: containers, shapes, labels, flags."""


def leaves(value: Any, path: str = "output") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path, which names the containers on the way. Raises: Incomparable on a type unknown here."""
    kind = type(value).__name__
    if value is None or isinstance(value, (Tensor, bool, int, float, complex, str, torch.Size)):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{kind}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}.{kind}[{i}]")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{kind}.{field.name}")
    else:
        raise Incomparable(f"{path} is a {kind}, whose leaves are not known")


def tensors(value: Any) -> list[Tensor]:
    return [leaf for _, leaf in leaves(value) if isinstance(leaf, Tensor)]


def distance(found: Any, expected: Any) -> float:
    """The largest relative difference of any floating leaf; each relative to that leaf's largest value.

    Raises: Incomparable when containers, shapes, dtypes or leaves that must be equal are not.
    """
    ours, theirs = dict(leaves(found)), dict(leaves(expected))
    if ours.keys() != theirs.keys():
        raise Incomparable(f"other leaves: {sorted(ours.keys() ^ theirs.keys())[:3]}")
    return max([0.0, *(_leaf_distance(path, ours[path], theirs[path]) for path in theirs)])


def _leaf_distance(path: str, ours: Any, theirs: Any) -> float:
    if not isinstance(theirs, Tensor):
        if type(ours) is not type(theirs) or ours != theirs:
            raise Incomparable(f"{path}: {ours!r} instead of {theirs!r}")
        return 0.0
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        raise Incomparable(f"{path}: {tuple(ours.shape)} {ours.dtype}, not {tuple(theirs.shape)} {theirs.dtype}")
    if not (theirs.is_floating_point() or theirs.is_complex()):
        if not torch.equal(ours, theirs):
            raise Incomparable(f"{path}: {float((ours != theirs).double().mean()):.1%} of its values differ")
        return 0.0
    finite = torch.isfinite(theirs)
    if not torch.equal(finite, torch.isfinite(ours)) or not torch.equal(
        torch.nan_to_num(theirs[~finite]), torch.nan_to_num(ours[~finite])
    ):
        raise Incomparable(f"{path}: other values that are not finite")
    if not bool(finite.any()):
        return 0.0
    wide = torch.complex128 if theirs.is_complex() else torch.float64
    ours, theirs = ours[finite].to(wide), theirs[finite].to(wide)
    difference, scale = float((ours - theirs).abs().max()), float(theirs.abs().max())
    return difference / scale if scale else (0.0 if difference == 0 else math.inf)
