"""What a node of a traced graph is to the fold: an affine convolution of a value, a sum, a concatenation, or opaque."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import fx

from repfold.algebra import AffineConv, Geometry

CHANNELS_SECOND = 1  # [N, C, *size]
CHANNELS_LAST = -1  # [..., C], what torch.nn.Linear reads


@dataclass(frozen=True)
class Cost:
    """Learned numbers (biases apart, which ride on the accumulators) and multiply-adds for one example."""

    parameters: int = 0
    multiply_adds: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)

    def __le__(self, other: Cost) -> bool:
        return self.parameters <= other.parameters and self.multiply_adds <= other.multiply_adds


@dataclass(frozen=True)
class Reading:
    """A value as an affine convolution of another: its geometry now, its numbers (float64) when built."""

    geometry: Geometry
    build: Callable[[], AffineConv]
    channel_axis: int = CHANNELS_SECOND


@dataclass(frozen=True)
class Apply:
    """node = affine(source)."""

    source: fx.Node
    reading: Reading
    cost: Cost = Cost()
    is_kernel: bool = False  # a convolution or linear layer, worth folding into
    is_derived: bool = False  # its weight is computed from others at every call
    is_norm: bool = False
    is_free: bool = False  # moves samples and computes nothing


@dataclass(frozen=True)
class Sum:
    """node = Σ sign·term."""

    terms: tuple[tuple[fx.Node, float], ...]
    cost: Cost = Cost()


@dataclass(frozen=True)
class Concat:
    """node = the parts, one after another along the channels."""

    parts: tuple[fx.Node, ...]


@dataclass(frozen=True)
class Opaque:
    """Anything else. ``reason`` is given where a user would have expected a linear layer to fold."""

    reason: str | None = None


Piece = Apply | Sum | Concat | Opaque


class Unfoldable(Exception):
    """A linear layer that cannot be read as an affine convolution; the message says why."""
