"""Opening a model: a model file, an ONNX file, a run directory, or a name; and an input that it takes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from repfold import allowance
from repfold.errors import RepFoldError, nearest
from repfold.fold import fold
from repfold.graph.module import GraphNetwork, to_module
from repfold.graph.onnx.read import read_onnx
from repfold.models.carried import described
from repfold.models.checkpoint import load_weights
from repfold.models.create import MODELS, create
from repfold.models.description import Architecture, Description
from repfold.models.file import Model, RunForm, load_model


def open_model(
    model: str | os.PathLike[str],
    *,
    form: RunForm = "train",
    factory: str | None = None,
    trust: bool = False,
    weights: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    example: Sequence[int] | None = None,
) -> Model:
    """Open a path, or a name of ``MODELS`` or package.module:factory, then with ``weights`` from a checkpoint.

    Args:
        form, factory, trust: as for ``load_model``.
        example: the shape of an input to follow an ONNX file with.

    Raises: RepFoldError when it is none of these, or when options of the one are given with the other.
    """
    if Path(model).exists():
        if weights is not None or num_classes is not None:
            raise RepFoldError(f"{model} brings its weights and classes: --weights and --num-classes are for names.")
        if is_onnx(model):
            return _open_onnx(model, example)
        return load_model(model, form=form, factory=factory, trust=trust)
    name = str(model)
    if ":" not in name and name not in MODELS:
        raise RepFoldError(
            f"'{name}' is neither a file nor a run directory, and no known model. {nearest(name, MODELS)} "
            "A network of your own is package.module:factory."
        )
    network = create(name, num_classes=num_classes).eval()
    if weights is not None:
        load_weights(network, weights)
    return Model(network, Description(architecture=Architecture(name, num_classes)))


def is_onnx(model: str | os.PathLike[str]) -> bool:
    """Whether ``model`` is the path of an ONNX file."""
    return Path(model).suffix == ".onnx" and Path(model).is_file()


def _open_onnx(path: str | os.PathLike[str], example: Sequence[int] | None) -> Model:
    """An ONNX file as an ordinary network."""
    read = read_onnx(path, sizes={(0, axis): size for axis, size in enumerate(example or ())})
    if len(read.arguments) != 1:
        raise RepFoldError(
            f"{path} takes {len(read.arguments)} inputs, and the command line makes one. In Python: "
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
    return Model(network, described(read.metadata))


def example_input(model: Model, shape: Sequence[int] | None = None) -> Tensor:
    """Return a random input of ``shape``, the same at every call, in the dtype of the model's parameters.

    Without a shape: one image as the model's preprocessing makes it; the sizes that an ONNX file was followed with;
    else 1x3x224x224.

    Raises: RepFoldError for a size below 1, or one that memory does not hold.
    """
    if shape is None:
        shape = _usual_shape(model)
    if any(size < 1 for size in shape):
        raise RepFoldError(f"An example of shape {'x'.join(map(str, shape))} has no values: sizes are at least 1.")
    if 4 * math.prod(shape) > allowance.free_memory() // 2:
        raise RepFoldError(
            f"An example of shape {'x'.join(map(str, shape))}, and what is computed of it, needs more memory "
            "than is free. Give a smaller one: --example or --image-size."
        )
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x.to(next((parameter.dtype for parameter in model.network.parameters()), x.dtype))


def _usual_shape(model: Model) -> Sequence[int]:
    seen = model.description.preprocessing
    if seen is not None:
        return (1, seen.channels, seen.image_size, seen.image_size)
    if isinstance(model.network, GraphNetwork):
        graph = model.network.repfold_graph
        return graph.numeric(graph.inputs[0].shape)
    return (1, 3, 224, 224)


def fold_model(model: Model, x: Tensor) -> Model:
    """Return ``model`` folded on the input ``x``; itself when it is folded already. Raises: as ``repfold.fold``."""
    if model.description.form == "folded":
        return model
    plain, _ = fold(model.network, x)
    return Model(plain, replace(model.description, form="folded"))
