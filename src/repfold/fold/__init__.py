"""Folding: tracing a network into affine regions, rewriting it, the certificate, the cost.

``repfold.fold`` is this room and, called, its main function: ``plain, certificate = repfold.fold(network, example)``.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from torch import nn

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


class _CallableRoom(types.ModuleType):
    def __call__(self, network: nn.Module, example: Any, *, policy: str = "auto") -> tuple[nn.Module, Certificate]:
        return fold(network, example, policy=policy)


sys.modules[__name__].__class__ = _CallableRoom
