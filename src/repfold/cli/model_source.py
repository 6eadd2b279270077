"""What a command's MODEL argument means: a model file, an ONNX file, a run directory, or a network by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repfold.errors import RepFoldError, nearest

if TYPE_CHECKING:
    import torch

    from repfold.models import Model
    from repfold.models.file import RunForm


def open_model(
    model: str,
    *,
    form: RunForm = "train",
    factory: str | None = None,
    trust: bool = False,
    weights: Path | None = None,
    num_classes: int | None = None,
    example: Sequence[int] | None = None,
) -> Model:
    """Open MODEL: a path, or a name of repfold.models or package.module:factory, with ``weights`` from a checkpoint.

    ``factory``, ``trust``: what the user says of the code that a file needs (see ``models.load_model``); ``example``:
    the shape of an input to follow an ONNX file with.

    Raises: RepFoldError when it is none of these, or when options of the one are given with the other.
    """
    from repfold import models

    if Path(model).exists():
        if weights is not None or num_classes is not None:
            raise RepFoldError(f"{model} brings its weights and classes: --weights and --num-classes are for names.")
        if is_onnx(model):
            return _open_onnx(model, example)
        return models.load_model(model, form=form, factory=factory, trust=trust)
    if ":" not in model and model not in models.MODELS:
        raise RepFoldError(
            f"'{model}' is neither a file nor a run directory, and no known model. {nearest(model, models.MODELS)} "
            "A network of your own is package.module:factory."
        )
    network = models.create(model, num_classes=num_classes).eval()
    if weights is not None:
        models.load_weights(network, weights)
    return models.Model(network, models.Description(architecture=models.Architecture(model, num_classes)))


def is_onnx(model: str) -> bool:
    """Whether MODEL is an ONNX file."""
    return Path(model).suffix == ".onnx" and Path(model).is_file()


def _open_onnx(model: str, example: Sequence[int] | None) -> Model:
    """An ONNX file as an ordinary network."""
    from repfold import models
    from repfold.graph.module import to_module
    from repfold.graph.onnx.read import read_onnx

    read = read_onnx(model, sizes={(0, axis): size for axis, size in enumerate(example or ())})
    if len(read.arguments) != 1:
        raise RepFoldError(
            f"{model} takes {len(read.arguments)} inputs, and the command line makes one. In Python: "
            "repfold.graph.onnx.read.read_onnx, repfold.graph.module.to_module, repfold.fold."
        )
    network = to_module(
        read.graph,
        read.state,
        arguments=read.arguments,
        output=read.output,
        name="Imported",
        parameter_names=("x",),
    )
    return models.Model(network, models.Description())


def make_example(shape: Sequence[int] | None, model: Model) -> torch.Tensor:
    """A random input of ``shape``, by default one image as the model's preprocessing makes it, else 1x3x224x224.

    A network from an ONNX file has the sizes that the file was followed with.

    Its dtype is that of the model's parameters.
    """
    import torch

    from repfold import allowance
    from repfold.graph.module import GraphNetwork

    if shape is None and model.description.preprocessing is None and isinstance(model.network, GraphNetwork):
        graph = model.network.repfold_graph
        shape = graph.numeric(graph.inputs[0].shape)
    if shape is None:
        seen = model.description.preprocessing
        shape = (1, seen.channels, seen.image_size, seen.image_size) if seen else (1, 3, 224, 224)
    if any(size < 1 for size in shape):
        raise RepFoldError(f"An example of shape {'x'.join(map(str, shape))} has no values: sizes are at least 1.")
    if 4 * math.prod(shape) > allowance.free_memory() // 2:
        raise RepFoldError(
            f"An example of shape {'x'.join(map(str, shape))}, and what is computed of it, needs more memory "
            "than is free. Give a smaller one: --example or --image-size."
        )
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x.to(next((parameter.dtype for parameter in model.network.parameters()), x.dtype))


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Read "1,3,224,224" (or 1x3x224x224)."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        raise RepFoldError(f"--example '{text}' is not a shape such as 1,3,224,224.") from error


def output_path(output: Path | None, model: str, name: str, formats: Iterable[str]) -> Path:
    """``output``, or the file ``name`` in the run directory MODEL; its name has to end in one of ``formats``."""
    if output is None:
        if not Path(model).is_dir():
            raise RepFoldError(f"Where to? {model} is not a run directory: give the file with -o, such as -o {name}.")
        return Path(model) / name
    if output.suffix not in formats:
        raise RepFoldError(
            f"{output}: unknown format '{output.suffix}'. The name has to end in {' or '.join(formats)}."
        )
    return output
