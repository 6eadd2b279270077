"""The name of this machine's processor."""

from __future__ import annotations

import platform
from pathlib import Path


def name() -> str:
    """Return the processor's model, "" where unknown; ``platform`` does not know it on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())
