"""Folding: tracing a network into affine regions, rewriting it, the certificate, the cost.

Its main function is also ``repfold.fold``: ``plain, certificate = repfold.fold(network, example)``.
"""

from __future__ import annotations

from repfold.fold.certificate import Certificate, FoldedRegion, LeftRegion
from repfold.fold.cost import Cost, LayerCost
from repfold.fold.cost_forms import Comparison, compare_costs
from repfold.fold.errors import FoldError
from repfold.fold.folding import fold
from repfold.fold.online import OnlineFold
from repfold.fold.plan import Plan, make_plan
from repfold.fold.profiling import Profile, profile

__all__ = [
    "Certificate",
    "Comparison",
    "Cost",
    "FoldError",
    "FoldedRegion",
    "LayerCost",
    "LeftRegion",
    "OnlineFold",
    "Plan",
    "Profile",
    "compare_costs",
    "fold",
    "make_plan",
    "profile",
]
