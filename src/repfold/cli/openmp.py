"""How PyTorch's threads wait for one another: long enough to lose no time alone, not so long as to take it from others.

Each operation of a network ends where its threads wait for the last of them. GNU's OpenMP lets them spin there, for
milliseconds: on a machine with other work, mostly for a thread that another program has displaced, and so the more
slowly the more they spin. See docs/reliability.md, "On a busy machine", for what was measured.
"""

from __future__ import annotations

import os
import sys

# What a user may have set to say how threads wait; GNU's, everybody's, Intel's.
_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
SPINS = 10_000


def yield_to_others() -> None:
    """Set how often threads look before they sleep, unless the user has; before PyTorch is loaded, which reads it."""
    if "torch" not in sys.modules and not any(name in os.environ for name in _CHOSEN_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
