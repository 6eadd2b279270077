"""Folding: tracing a network into affine regions, rewriting it, the certificate, the cost.

Its main function is also ``repfold.fold``: ``plain, certificate = repfold.fold(network, example)``.
"""

from __future__ import annotations

from repfold.fold.certificate import Certificate, FoldedRegion, LeftRegion
from repfold.fold.cost import LayerCost, Profile, profile
from repfold.fold.cost_forms import Comparison, compare_forms
from repfold.fold.errors import FoldError
from repfold.fold.folding import fold
from repfold.fold.online import OnlineFold
from repfold.fold.plan import Plan, make_plan

__all__ = [
    "Certificate",
    "Comparison",
    "FoldError",
    "FoldedRegion",
    "LayerCost",
    "LeftRegion",
    "OnlineFold",
    "Plan",
    "Profile",
    "compare_forms",
    "fold",
    "make_plan",
    "profile",
]
