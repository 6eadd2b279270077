"""Expanding: the convolutions of a trained network, each replaced by a training-time structure that computes the same.

``repfold.expand`` is this room and, called, its main function: ``rich = repfold.expand(network, "dbb")``.
"""

from __future__ import annotations

import sys
import types

from repfold.expand.expanding import EXPANDABLE, ExpandWarning, expand
from repfold.expand.sites import Where

__all__ = ["EXPANDABLE", "ExpandWarning", "Where", "expand"]


class _CallableRoom(types.ModuleType):
    __call__ = staticmethod(expand)  # no frame of its own, so that a warning points at the caller's line


sys.modules[__name__].__class__ = _CallableRoom
