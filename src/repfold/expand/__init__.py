"""Expanding: the convolutions of a trained network, each replaced by a training-time structure that computes the same.

Its main function is also ``repfold.expand``: ``rich = repfold.expand(network, "dbb")``.
"""

from __future__ import annotations

from repfold.expand.expanding import EXPANDABLE, ExpandWarning, expand
from repfold.expand.sites import Where

__all__ = ["EXPANDABLE", "ExpandWarning", "Where", "expand"]
