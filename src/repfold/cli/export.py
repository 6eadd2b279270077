"""``repfold export``: a model as ONNX or .pt2 for other runtimes, checked against the network it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from repfold.cli.model_flags import ModelFlags, output_path
from repfold.cli.terminal import echo, print_json


def export(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    train_form: bool = False,
    from_pixels: bool = False,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Export a model, folded, with free batch and image size; what the file computes is compared before it is kept.

    Args:
        model: A run directory, a model file, a model's name, or package.module:factory.
        output: The file to write: .onnx or .pt2. For a run directory model.onnx in it.
        train_form: Export the network with its training-time branches instead of folding it first.
        from_pixels: Put the preprocessing inside: pixels in (uint8, NHWC, resized and cropped), probabilities out.
        json: Print one JSON object.
    """
    from repfold import deploy, models, run_files

    opened, x = flags.open(model)
    path = output_path(output, model, run_files.ONNX, deploy.EXPORTERS)
    exported = opened if train_form else models.fold_model(opened, x)
    network = exported.network
    if from_pixels:
        network, x = deploy.from_pixels(network, exported.description.preprocessing)
    written = deploy.EXPORTERS[path.suffix](network, x, path, description=exported.description)
    size = path.stat().st_size
    if json:
        print_json({"output": str(path), "free_axes": written.free_axes, "error": written.error, "bytes": size})
        return
    echo(f"Written: {path} ({size / 1e6:.1f} MB), free axes: {', '.join(written.free_axes) or 'none'}.")
    if written.error is None:
        echo(
            "Not compared with the network: ONNX Runtime is not installed, or this dtype is one that it cannot be fed."
        )
    else:
        runtime = "ONNX Runtime" if path.suffix == ".onnx" else "The loaded program"
        echo(f"{runtime} agrees with the network to a relative error of {written.error:.1e}.")
