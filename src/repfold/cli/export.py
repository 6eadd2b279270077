"""``repfold export``: a model as ONNX or .pt2 for other runtimes, checked against the network it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from repfold.cli.terminal import tell


def export(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    example: str | None = None,
    weights: Path | None = None,
    num_classes: int | None = None,
    train_form: bool = False,
    factory: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Export a model, folded, with free batch and image size; what the file computes is compared before it is kept.

    Args:
        model: A run directory, a model file, a model's name, or package.module:factory.
        output: The file to write: .onnx or .pt2. For a run directory model.onnx in it.
        example: Shape of an input, such as 1,3,224,224. Known for trained models.
        weights: Checkpoint to load into a network given by name.
        num_classes: Number of classes of a network given by name.
        train_form: Export the network with its training-time branches instead of folding it first.
        factory: Your own package.module:factory that builds a model file's network.
        trust: Run the code that a run or a model file names: only for what you trained yourself.
        json: Print one JSON object.
    """
    from json import dumps

    from repfold import deploy, run_files
    from repfold.cli.model_source import make_example, open_model, output_path, parse_shape
    from repfold.fold import fold

    source = open_model(model, factory=factory, trust=trust, weights=weights, num_classes=num_classes)
    path = output_path(output, model, run_files.ONNX, deploy.EXPORTERS)
    network, x = source.network, make_example(parse_shape(example), source)
    if source.description.form == "train" and not train_form:
        network, _ = fold(network, x)
    written = deploy.EXPORTERS[path.suffix](network, x, path)
    size = path.stat().st_size
    if json:
        print(dumps({"output": str(path), "free_axes": written.free_axes, "error": written.error, "bytes": size}))
        return
    tell(f"Written: {path} ({size / 1e6:.1f} MB), free axes: {', '.join(written.free_axes)}.")
    if written.error is None:
        tell(
            "Not compared with the network: ONNX Runtime is not installed, or this dtype is one that it cannot be fed."
        )
    else:
        runtime = "ONNX Runtime" if path.suffix == ".onnx" else "The loaded program"
        tell(f"{runtime} agrees with the network to a relative error of {written.error:.1e}.")
