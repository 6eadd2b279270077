"""What a value of a graph is to the fold: an affine convolution of another, a sum, a concatenation, or opaque."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from repfold.algebra import AffineConv, Geometry
from repfold.fold.cost import NOTHING, Cost
from repfold.graph.graph import Value

State = Mapping[str, Tensor]
Build = Callable[[State, torch.dtype], AffineConv]


@dataclass(frozen=True)
class Reading:
    """A value as an affine convolution of another: its geometry now, its numbers when built from the graph's tensors.

    With spatial axes the channels are axis 1, [N, C, *size]; without any they are the last, [..., C], as a linear layer
    reads them.
    """

    geometry: Geometry
    build: Build

    @property
    def channels_last(self) -> bool:
        """Whether it maps the last axis, as a linear layer does, instead of axis 1."""
        return not self.geometry.axes


@dataclass(frozen=True)
class Apply:
    """value = affine(source)."""

    source: Value
    reading: Reading
    cost: Cost = NOTHING
    is_kernel: bool = False  # a convolution or linear layer, worth folding into
    is_derived: bool = False  # its weight is computed from others at every call
    is_free: bool = False  # moves samples and computes nothing
    constants: tuple[Value, ...] = ()  # what its numbers are computed from


@dataclass(frozen=True)
class Sum:
    """value = Σ sign·term."""

    terms: tuple[tuple[Value, float], ...]
    cost: Cost = NOTHING


@dataclass(frozen=True)
class Concat:
    """value = the parts, one after another along the channels."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Opaque:
    """Anything else. ``reason`` is given where a user would have expected a linear layer to fold."""

    reason: str | None = None


Piece = Apply | Sum | Concat | Opaque


class Unfoldable(Exception):
    """A linear layer that cannot be read as an affine convolution; the message says why."""
