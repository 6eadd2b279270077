"""The algebra of affine convolutions: geometry, the normal form, the laws. Pure and differentiable."""

from repfold.algebra.affine import (
    AffineConv,
    average_pool,
    identity,
    pixel_shuffle,
    pixel_unshuffle,
    scaling,
    selection,
    transposed,
)
from repfold.algebra.geometry import (
    Axis,
    Geometry,
    Inexact,
    conv_axes,
    identity_geometry,
    per_axis,
    sequence_geometry,
    sum_geometry,
)
from repfold.algebra.laws import add, concatenate, concatenate_geometry, embed, regroup, scale, sequence, split_groups

__all__ = [
    "AffineConv",
    "Axis",
    "Geometry",
    "Inexact",
    "add",
    "average_pool",
    "concatenate",
    "concatenate_geometry",
    "conv_axes",
    "embed",
    "identity",
    "identity_geometry",
    "per_axis",
    "pixel_shuffle",
    "pixel_unshuffle",
    "regroup",
    "scale",
    "scaling",
    "selection",
    "sequence",
    "sequence_geometry",
    "split_groups",
    "sum_geometry",
    "transposed",
]
