"""How much memory a process may spend on images."""

from __future__ import annotations

import os

from repfold.allowance import available_bytes


def cache_budget(share: float = 0.4) -> int:
    """Return the bytes that this process may spend on decoded images: a share of what is free, divided among the
    processes that ``torchrun`` started on this machine, each of which keeps its own cache."""
    return int(available_bytes() * share) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
