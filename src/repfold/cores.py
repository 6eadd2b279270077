"""How many processors a process may use: those that it is allowed on, and what its container grants of them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from repfold.errors import RepFoldError

_CGROUPS = Path("/sys/fs/cgroup")
# So many times the cores leave no doubt that something else was meant; threads of their number cannot even start.
_MOST_THREADS_A_CORE = 16


def usable_cores() -> int:
    """The processors that may run this process's threads at one time; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _quotas())]))


def check_threads(threads: int) -> None:
    """Raises: RepFoldError for a number of threads that this machine cannot gain from."""
    if threads < 1:
        raise RepFoldError(f"threads is {threads}; there has to be at least one.")
    cores = usable_cores()
    if threads <= _MOST_THREADS_A_CORE * cores:
        return
    raise RepFoldError(
        f"threads is {threads:,}, and {cores} {'cores' if cores > 1 else 'core'} may be used here: more threads than "
        f"cores only wait for one another. Use --threads {cores}, or leave it out."
    )


def _quotas() -> list[float]:
    """What control groups grant, in processors: version 2, every group from this process's up; else version 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    groups = [_CGROUPS / own, *(_CGROUPS / own).parents]
    found = [_share(group / "cpu.max") for group in groups if group.is_relative_to(_CGROUPS)]
    found.append(_share(_CGROUPS / "cpu" / "cpu.cfs_quota_us", _CGROUPS / "cpu" / "cpu.cfs_period_us"))
    return [share for share in found if share is not None]


def _share(*files: Path) -> float | None:
    """Time that may be used over the time it is used in; None where there is no limit ("max", -1) or no such group."""
    try:
        quota, period = (float(word) for file in files for word in file.read_text().split())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None
