"""``repfold deploy``: the files that a served model needs, and the engine that runs it fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from repfold.cli.model_flags import ModelFlags
from repfold.cli.terminal import echo, print_json

if TYPE_CHECKING:
    from repfold.deploy import Serving


def deploy(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    batch: int = 1,
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    rounds: int = 20,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Fold a model, write it as .safetensors and ONNX, time the engines on them, and say which one to serve with.

    Args:
        model: A run directory, a model file, a model's name, or package.module:factory.
        output: Directory for plain.safetensors, model.onnx and deploy.json.
        batch: Images at once, as they will be served.
        threads: Threads to serve with; PyTorch's default if not given.
        precision: Of RepFold's engine: fp32, or bf16 where the CPU computes in it. The other engines compute in fp32.
        rounds: Measurements of each engine; the engines take turns.
        json: Print one JSON object: what deploy.json holds.
    """
    from repfold.deploy import check_sizes, deploy_model

    check_sizes((batch,), threads)
    opened, x_NCHW = flags.open(model)
    serving = deploy_model(opened, x_NCHW, output, batch=batch, threads=threads, precision=precision, rounds=rounds)
    print_json(serving.to_dict()) if json else _print(serving, output)


def _print(serving: Serving, folder: Path) -> None:
    for row in sorted(serving.timings.rows, key=lambda row: row.median_ms):
        echo(f"{row.form:26s} {row.median_ms:9.2f} ms  (10 %: {row.low_ms:.2f}, 90 %: {row.high_ms:.2f}, n = {row.n})")
    for name, reason in serving.without.items():
        echo(f"Not with {name}: {reason}")
    echo(f"\nIn {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    echo(f"Fastest here for a batch of {serving.batch} on {serving.threads} threads:\n")
    echo(serving.program(folder))
