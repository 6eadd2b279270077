"""A folded network as a file, in the format of its suffix.

What was read from ONNX keeps its names, its free sizes and its unknown nodes there.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from repfold import models
from repfold.deploy.export import EXPORTERS, TOLERANCES, onnx_session
from repfold.errors import RepFoldError
from repfold.fold.compare import distance
from repfold.graph.interpret import execute
from repfold.graph.module import GraphNetwork
from repfold.graph.onnx.read import Names, read_names, read_onnx
from repfold.graph.onnx.write import write_onnx
from repfold.graph.structure import take_apart

FORMATS = (".safetensors", *EXPORTERS)


def write_plain(
    plain: models.Model, x: Tensor, path: str | os.PathLike[str], *, source: str | os.PathLike[str] | None = None
) -> None:
    """Write a folded network to ``path``: a model file, ONNX, or PyTorch's .pt2.

    Args:
        x: the input that it was folded on.
        source: what it was read from; an ONNX file is written back as one.

    Raises: RepFoldError when the network is none that the format holds.
    """
    suffix = Path(path).suffix
    if suffix == ".safetensors":
        models.save(plain.network, path, description=plain.description)
    elif suffix == ".onnx" and source is not None and models.is_onnx(source):
        write_back(plain.network, x, source, path)
    else:
        EXPORTERS[suffix](plain.network, x, path, description=plain.description)


def write_back(plain: nn.Module, x: Tensor, source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write ``plain``, which was read from the ONNX file ``source`` and folded on ``x``, to ``path``.

    The file is run, by ONNX Runtime where that can, and replaces an older one when it computes what ``plain`` does.

    Raises: RepFoldError when it was folded part by part, so that no graph describes it, or computes something else.
    """
    if not isinstance(plain, GraphNetwork) or not _carries_itself(plain, x):
        raise RepFoldError(f"{source} was folded part by part, and is no graph that ONNX can hold. Write .safetensors.")
    names, opset, metadata = read_names(source)
    with torch.no_grad():
        expected = take_apart(plain(x))

    def check(file: Path) -> None:
        for name, y_file, y in zip(names.outputs, _computed(file, x, names), expected, strict=True):
            if not _agree(y_file, y):
                raise RepFoldError(
                    f"'{name}' of the ONNX file that was made differs from the folded network's, so {path} was not "
                    "written. Write .safetensors, or report the network."
                )

    graph, state = plain.repfold_graph, plain.state_dict()
    write_onnx(graph, state, path, names=names, opset=opset, metadata=metadata, check=check)


def _computed(file: Path, x: Tensor, names: Names) -> list[Tensor]:
    """The outputs of an ONNX file on ``x``; by the graph that is read from it, where ONNX Runtime cannot run it."""
    try:
        session = onnx_session(file)
    except RepFoldError:
        read = read_onnx(file, sizes={(0, axis): size for axis, size in enumerate(x.shape)})
        with torch.no_grad():
            return execute(read.graph, (x,), read.state)
    return [torch.from_numpy(y) for y in session.run(None, {names.inputs[0]: x.detach().cpu().numpy()})]


def _agree(y_file: Tensor, y: Tensor) -> bool:
    if y_file.shape != y.shape:
        return False
    if not y.is_floating_point():
        return torch.equal(y_file, y)
    return distance(y_file, y)[0] <= TOLERANCES[y.dtype]


def _carries_itself(plain: GraphNetwork, x: Tensor) -> bool:
    """Whether the graph that it carries is what it computes; a part that was folded alone is not in it."""
    state = plain.state_dict()
    if not {value["path"] for value in plain.repfold_graph.state} <= state.keys():
        return False
    with torch.no_grad():
        pairs = zip(execute(plain.repfold_graph, (x,), state), take_apart(plain(x)), strict=True)
        return all(a.shape == b.shape and torch.allclose(a, b, 1e-3, 1e-4) for a, b in pairs)
