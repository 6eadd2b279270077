"""How PyTorch's threads wait for one another: long enough to lose no time alone, not so long as to take it from others.

Each operation of a network ends where its threads wait for the last of them. GNU's OpenMP lets them spin there, for
milliseconds: on a machine with other work, mostly for a thread that another program has displaced, and so the more
slowly the more they spin. See docs/reliability.md, "On a busy machine", for what was measured.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

from repfold import allowance

# What a user may have set to say how threads wait; GNU's, everybody's, Intel's.
_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
# Looks before a thread sleeps: about 1.5 ms bridge the time between operations, so that little is lost alone, and bound
# what is lost should the machine become busy later.
SPINS = 30_000
_STATISTICS = Path("/proc/stat")
_LOOKS, _SECONDS_BETWEEN = 3, 0.003


def yield_to_others() -> None:
    """Set how often threads look before they sleep, unless the user has; before PyTorch is loaded, which reads it.

    Where other programs already keep half of the cores busy, they sleep at once.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _CHOSEN_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = "0" if is_busy() else str(SPINS)


def is_busy() -> bool:
    """Whether threads of others want at least half of the cores at this moment, as far as the system reports.

    Not the load average, which still remembers for a minute what this user's last command did.
    """
    counts = []
    for _ in range(_LOOKS):
        counts.append(_running())
        time.sleep(_SECONDS_BETWEEN)
    return statistics.median(counts) - 1 >= allowance.cores() / 2  # but for this thread itself


def _running() -> int:
    """Threads of the whole machine that run or wait for a core; this one where that is unknown."""
    try:
        lines = _STATISTICS.read_text().splitlines()
    except OSError:
        return 1
    return next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 1)
