"""``repfold convert``: checkpoints of other code into model files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from repfold.cli.terminal import echo, print_json
from repfold.counted import counted


def convert(
    source: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    to: Literal["repfold", "original", "timm", "apple", "pytorchcv"] = "repfold",
    preset: Literal["imagenet", "32px"] | None = None,
    json: bool = False,
) -> None:
    """Convert a checkpoint of RepVGG, MobileOne or MobileNet between the layouts of other code and RepFold.

    Args:
        source: A model file, or a checkpoint in any known layout, train or folded form.
        output: The file to write: .safetensors, or .pt or .pth for other code.
        to: Whose layout: repfold (a model file), original (RepVGG's authors), timm, apple (MobileOne),
            pytorchcv (MobileNets).
        preset: The strides of the network, which a checkpoint does not always show; imagenet where both fit.
        json: Print one JSON object.
    """
    from dataclasses import asdict

    from repfold.models.convert import convert as convert_file

    done = convert_file(source, output, to=to, preset=preset)
    if json:
        print_json({**asdict(done), "path": str(done.path)})
        return
    classes = done.architecture.num_classes
    echo(f"{done.architecture.name}, {classes} classes, {done.form} form: {done.source} -> {done.target}.")
    echo(f"Written: {done.path} ({counted(done.tensors, 'tensor')}).")
