"""``repfold quantize``: a folded network in int8, calibrated on training images, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from repfold.cli.model_flags import ModelFlags, output_path
from repfold.cli.terminal import echo, print_json
from repfold.counted import counted


def quantize(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    data: str | None = None,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    images: int = 256,
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax",
    threads: int | None = None,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Quantize a model after training: int8 weights a channel, uint8 activations; accuracy before and after.

    Args:
        model: A run directory, or a model file that says its preprocessing.
        data: Training images to calibrate on and validation images to measure; for a run directory its own.
        output: The ONNX file to write. For a run directory int8.onnx in it, where `repfold deploy` looks for it.
        images: Training images to calibrate on.
        calibration: Ranges of activations: all values, the least entropy lost, or 99.99 % of the values.
        threads: Threads to measure with; PyTorch's default if not given.
        json: Print one JSON object.
    """
    from repfold import run_files
    from repfold.cli.console import Console
    from repfold.deploy import quantize_model
    from repfold.deploy.quantize import check_images
    from repfold.train.model_evaluation import labelled_images

    path = output_path(output, model, run_files.INT8, (".onnx",))
    check_images(images)
    opened, _ = flags.open(model)
    calibrating = labelled_images(opened, Path(model), data, part="train")
    measuring = labelled_images(opened, Path(model), data)
    with Console(stderr=True).status("folding") as status:
        done = quantize_model(
            opened,
            calibrating.loader(calibrating.train.sample(images), 32, train=False),
            measuring.loader("val", 32, train=False),
            path,
            images=images,
            calibration=calibration,
            threads=threads,
            on_stage=status.update,
        )
    if json:
        print_json(done.to_dict())
        return
    echo(f"Written: {path} ({path.stat().st_size / 1e6:.1f} MB, in float32 {done.bytes_before / 1e6:.1f} MB).")
    echo(
        f"Top-1 {done.after.top1:.2f} %, before {done.before.top1:.2f} %; the same class in {done.after.same:.2f} % of "
        f"{counted(done.after.images, 'image')}. Calibrated on "
        f"{counted(done.images, 'training image')} ({done.calibration})."
    )
