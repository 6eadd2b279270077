"""The most memory that loading a network and running it takes: of a process of its own, by Linux' count."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_LONGEST_SECONDS = 600


@dataclass(frozen=True)
class Load:
    """What is loaded and run: a file in an engine, or with ``opening`` (arguments of ``open_model``) a network.

    ``shape`` is that of the input.
    """

    path: str
    shape: tuple[int, ...]
    threads: int
    engine: str | None = None
    precision: str = "fp32"
    opening: dict[str, Any] | None = None


def peak_bytes(load: Load) -> int | None:
    """Return by how many bytes the process grows at most while it loads the network and runs it twice.

    What its libraries take is not counted. None where it cannot be measured: not on Linux, or the load fails.
    """
    if not _CLEAR.exists():
        return None
    command = [sys.executable, "-m", "repfold.deploy.memory", json.dumps(asdict(load))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_SECONDS)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    return int(last[0]) if done.returncode == 0 and last[0].isdigit() else None


def _measure(load: Load) -> int:
    import torch

    torch.set_num_threads(load.threads)
    x_NCHW = np.random.default_rng(0).standard_normal(load.shape).astype(np.float32)
    if load.engine is not None:
        from repfold.deploy.runtimes import RUNTIMES

        runtime = RUNTIMES[load.engine]
        importlib.import_module(runtime.modules[0])
        before = _begin()
        call = runtime.open(Path(load.path), threads=load.threads, precision=load.precision)
        for _ in range(2):
            call(x_NCHW)
        return _read("VmHWM") - before
    from repfold import models

    before = _begin()
    network = models.open_model(load.path, **(load.opening or {})).network
    with torch.inference_mode():
        for _ in range(2):
            network(torch.from_numpy(x_NCHW))
    return _read("VmHWM") - before


def _begin() -> int:
    """Forget the peak so far; return what the process takes now."""
    _CLEAR.write_text("5")
    return _read("VmRSS")


def _read(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    content = json.loads(sys.argv[1])
    print(_measure(Load(**{**content, "shape": tuple(content["shape"])})))
