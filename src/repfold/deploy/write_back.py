"""An ONNX file's network, folded, back as an ONNX file: its names, its free sizes, its unknown nodes as they were."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from repfold.errors import RepFoldError
from repfold.graph.interpret import execute
from repfold.graph.module import GraphNetwork
from repfold.graph.onnx.read import read_names
from repfold.graph.onnx.write import write_onnx
from repfold.graph.structure import take_apart


def write_back(plain: nn.Module, x: Tensor, source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write ``plain``, which was read from the ONNX file ``source`` and folded on ``x``, to ``path``.

    Raises: RepFoldError when it was folded part by part, so that no graph describes it.
    """
    if not isinstance(plain, GraphNetwork) or not _carries_itself(plain, x):
        raise RepFoldError(f"{source} was folded part by part, and is no graph that ONNX can hold. Write .safetensors.")
    names, opset = read_names(source)
    write_onnx(plain.repfold_graph, plain.state_dict(), path, names=names, opset=opset)


def _carries_itself(plain: GraphNetwork, x: Tensor) -> bool:
    """Whether the graph that it carries is what it computes; a part that was folded alone is not in it."""
    state = plain.state_dict()
    if not {value["path"] for value in plain.repfold_graph.state} <= state.keys():
        return False
    with torch.no_grad():
        pairs = zip(execute(plain.repfold_graph, (x,), state), take_apart(plain(x)), strict=True)
        return all(a.shape == b.shape and torch.allclose(a, b, 1e-3, 1e-4) for a, b in pairs)
