"""Every engine installed x every precision: a file each, opened, and shown to compute what the folded network does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from repfold.deploy.compare import NATIVE_TOLERANCE
from repfold.deploy.runtimes import PRECISIONS, RUNTIMES, Call, Material, Precision, Runtime
from repfold.errors import first_line
from repfold.fold.compare import distance


@dataclass(frozen=True)
class Candidate:
    """An engine in a precision, the file that it runs, and the call."""

    engine: str
    precision: Precision
    path: Path
    call: Call

    @property
    def runtime(self) -> Runtime:
        """The engine."""
        return RUNTIMES[self.engine]

    @property
    def title(self) -> str:
        """How tables call it."""
        return title(self.engine, self.precision)


def title(engine: str, precision: Precision) -> str:
    """Return how tables call an engine in a precision: "OpenVINO, bf16"."""
    return f"{RUNTIMES[engine].title}, {precision}"


def prepare(
    material: Material,
    folder: Path,
    *,
    threads: int,
    engines: Sequence[str] = tuple(RUNTIMES),
    on_stage: Callable[[str], None] = lambda name: None,
) -> tuple[list[Candidate], dict[str, str]]:
    """Return the candidates that run, their files in ``folder``, and why each of the others does not.

    One in float32 has to agree with the network; what another precision costs, its accuracy says.
    """
    candidates, without = [], {}
    for engine in engines:
        runtime = RUNTIMES[engine]
        if (missing := runtime.missing()) is not None:
            without[runtime.title] = missing
            continue
        for precision in PRECISIONS:
            if precision not in runtime.precisions or (precision == "int8" and material.int8_onnx is None):
                continue
            on_stage(title(engine, precision))
            try:
                candidates.append(_prepared(material, folder, engine, precision, threads))
            except Exception as error:  # each engine has exceptions of its own
                without[title(engine, precision)] = first_line(error, 300)
    return candidates, without


def _prepared(material: Material, folder: Path, engine: str, precision: Precision, threads: int) -> Candidate:
    runtime = RUNTIMES[engine]
    stem = "model.int8" if precision == "int8" else "model"
    path = folder / engine / f"{stem}{runtime.suffix}"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        runtime.write(material, precision, path)
    call = runtime.open(path, threads=threads, precision=precision)
    x_NCHW = material.x_NCHW.float()
    with torch.inference_mode():
        expected = material.plain.network(material.x_NCHW).float().flatten(1)
    computed = torch.from_numpy(np.array(call(x_NCHW.numpy()), np.float32)).flatten(1)
    if computed.shape != expected.shape or not bool(torch.isfinite(computed).all()):
        raise RuntimeError("what it answers is not one finite number a class")
    error, _ = distance(computed, expected)
    if precision == "fp32" and error > NATIVE_TOLERANCE["fp32"]:
        raise RuntimeError(f"it differs from PyTorch by {error:.1e} (relative)")
    return Candidate(engine, precision, path, call)
