"""What a served model needs: its files, and the engine that runs it fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from repfold import atomic, models, run_files
from repfold.deploy.compare import NATIVE, ONNX_RUNTIME, check_sizes, compare_forms, why_not_native
from repfold.deploy.finish import write_onnx
from repfold.report.timings import Timings

CHOICE = "deploy.json"  # beside the model's files

Engine = Literal["repfold", "onnxruntime", "torch"]

# How a user's program runs the files with each engine.
_PROGRAMS: dict[Engine, str] = {
    "repfold": """from repfold import engine
network = engine.load("{plain}", threads={threads}, precision="{precision}")
logits = network(images_NCHW)  # numpy float32""",
    "onnxruntime": """import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession("{onnx}", options)
logits = session.run(None, {{session.get_inputs()[0].name: images_NCHW}})[0]  # numpy float32""",
    "torch": """import repfold
network = repfold.load("{plain}").eval()
logits = network(images_NCHW)  # torch float32""",
}
_ENGINES: dict[str, Engine] = {NATIVE: "repfold", ONNX_RUNTIME: "onnxruntime"}


@dataclass(frozen=True)
class Serving:
    """The fastest ``engine`` for ``batch`` images at once, what was measured, and why engines are ``without`` times."""

    engine: Engine
    threads: int
    precision: str
    batch: int
    without: Mapping[str, str]
    timings: Timings

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: {"engine", "threads", "precision", "batch", "without", "machine", "rows"}."""
        content = asdict(self)
        timings: dict[str, Any] = content.pop("timings")
        return content | timings

    def program(self, folder: Path) -> str:
        """Return Python that runs the files in ``folder`` so."""
        plain, onnx = folder / run_files.PLAIN, folder / run_files.ONNX
        return _PROGRAMS[self.engine].format(plain=plain, onnx=onnx, threads=self.threads, precision=self.precision)


def deploy_model(
    model: models.Model,
    x_NCHW: Tensor,
    directory: Path,
    *,
    batch: int = 1,
    threads: int | None = None,
    precision: str = "fp32",
    rounds: int = 20,
) -> Serving:
    """Write plain.safetensors, model.onnx and deploy.json into ``directory``, and time the engines on them.

    Args:
        model: in either form; it is folded on ``x_NCHW`` unless it is.
        threads: of every engine; PyTorch's number if not given.
        precision: of RepFold's engine, "fp32" or "bf16"; the others compute in float32.

    Raises: RepFoldError for sizes that make no sense, and a model that cannot be folded or written.
    """
    check_sizes((batch,), threads)
    plain = models.fold_model(model, x_NCHW)
    directory.mkdir(parents=True, exist_ok=True)
    models.save(plain.network, directory / run_files.PLAIN, description=plain.description)
    onnx = write_onnx(directory, plain.network, x_NCHW, plain.description)
    reasons: dict[str, str | None] = {
        "repfold": why_not_native(plain.network, x_NCHW, precision),
        "onnxruntime": onnx.result if onnx.file is None else None,
    }
    without = {name: reason for name, reason in reasons.items() if reason is not None}
    threads = threads or torch.get_num_threads()
    timings = compare_forms(
        None,
        plain.network,
        x_NCHW,
        batches=(batch,),
        rounds=rounds,
        threads=threads,
        onnx="onnxruntime" not in without,
        native="repfold" not in without,
        precision=precision,
    )
    engine = _ENGINES.get(min(timings.rows, key=lambda row: row.median_ms).form, "torch")
    serving = Serving(engine, threads, precision if engine == "repfold" else "fp32", batch, without, timings)
    atomic.write_json(directory / CHOICE, serving.to_dict(), indent=1)
    return serving
