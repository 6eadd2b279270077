"""How much memory a process may still take, containers' limits included."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = (  # directory, limit, usage: version 2, then version 1
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def available_bytes() -> int:
    """Return the bytes that can still be allocated without swapping, as far as the system tells."""
    return max(0, min([_of_machine(), *_of_container()]))


def cache_budget(share: float = 0.4) -> int:
    """Return the bytes that this process may spend on decoded images: a share of what is free, divided among the
    processes that ``torchrun`` started on this machine, each of which keeps its own cache."""
    return int(available_bytes() * share) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # without /proc (macOS): half of what is installed
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30


def _of_container() -> list[int]:
    for directory, limit, usage in _CGROUPS:
        try:
            # Usage counts the cache of files read; what is inactive of it is given up on demand.
            statistics = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
            reclaimable = int(statistics.get("inactive_file", 0))
            return [int((directory / limit).read_text()) - int((directory / usage).read_text()) + reclaimable]
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue
    return []
