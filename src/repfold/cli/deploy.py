"""``repfold deploy``: the files that a served model needs, and the engine that runs it fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.terminal import tell
from repfold.errors import RepFoldError
from repfold.limits import MOST_IMAGES
from repfold.threads import check_threads

if TYPE_CHECKING:
    from repfold.report.timings import Timing

# How a user's program runs the files with each engine.
PROGRAMS = {
    "repfold": """from repfold import engine
network = engine.load("{folder}/plain.safetensors", threads={threads}, precision="{precision}")
logits = network(images_NCHW)  # numpy float32""",
    "onnxruntime": """import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession("{folder}/model.onnx", options)
logits = session.run(None, {{session.get_inputs()[0].name: images_NCHW}})[0]  # numpy float32""",
    "torch": """import repfold
network = repfold.load("{folder}/plain.safetensors").eval()
logits = network(images_NCHW)  # torch float32""",
}


def deploy(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    batch: int = 1,
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    rounds: int = 20,
    example: str | None = None,
    weights: Path | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    trust: bool = False,
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
        example: Shape of an input, such as 1,3,224,224. Known for trained models.
        weights: Checkpoint to load into a network given by name.
        num_classes: Number of classes of a network given by name.
        factory: Your own package.module:factory that builds a model file's network.
        trust: Run the code that a run or a model file names: only for what you trained yourself.
        json: Print one JSON object: what deploy.json holds.
    """
    from dataclasses import replace
    from json import dumps

    import torch

    from repfold import atomic, models
    from repfold.cli.finish_run import write_onnx
    from repfold.cli.model_source import make_example, open_model, parse_shape
    from repfold.deploy import compare_forms, why_not_native
    from repfold.fold import fold

    if not 1 <= batch <= MOST_IMAGES:
        raise RepFoldError(f"--batch {batch}: give a size from 1 to {MOST_IMAGES:,}.")
    if threads is not None:
        check_threads(threads)
    source = open_model(model, factory=factory, trust=trust, weights=weights, num_classes=num_classes)
    x_NCHW, plain = make_example(parse_shape(example), source), source.network
    if source.description.form != "folded":
        plain, _ = fold(plain, x_NCHW)
    output.mkdir(parents=True, exist_ok=True)
    models.save(plain, output / "plain.safetensors", description=replace(source.description, form="folded"))
    onnx = write_onnx(output, plain, x_NCHW)
    without = {
        "repfold": why_not_native(plain, x_NCHW, precision),
        "onnxruntime": onnx.result if onnx.file is None else None,
    }
    threads = threads or torch.get_num_threads()
    timings = compare_forms(
        None,
        plain,
        x_NCHW,
        batches=(batch,),
        rounds=rounds,
        threads=threads,
        onnx=without["onnxruntime"] is None,
        native=without["repfold"] is None,
        precision=precision,
    )
    fastest = min(timings.rows, key=lambda row: row.median_ms)
    chosen: dict[str, Any] = {
        "engine": _engine_of(fastest),
        "threads": threads,
        "precision": precision if _engine_of(fastest) == "repfold" else "fp32",
        "batch": batch,
        "without": {name: reason for name, reason in without.items() if reason},
        **timings.to_dict(),
    }
    atomic.write_text(output / "deploy.json", dumps(chosen, indent=1) + "\n")
    print(dumps(chosen)) if json else _tell(chosen, timings.rows, output)


def _engine_of(row: Timing) -> str:
    from repfold.deploy.compare import NATIVE, ONNX_RUNTIME

    return {NATIVE: "repfold", ONNX_RUNTIME: "onnxruntime"}.get(row.form, "torch")


def _tell(chosen: dict[str, Any], rows: tuple[Timing, ...], output: Path) -> None:
    for row in sorted(rows, key=lambda row: row.median_ms):
        tell(f"{row.form:26s} {row.median_ms:9.2f} ms  (10 %: {row.low_ms:.2f}, 90 %: {row.high_ms:.2f}, n = {row.n})")
    for name, reason in chosen["without"].items():
        tell(f"Not with {name}: {reason}")
    tell(f"\nIn {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    tell(f"Fastest here for a batch of {chosen['batch']} on {chosen['threads']} threads:\n")
    tell(PROGRAMS[chosen["engine"]].format(folder=output, **chosen))
