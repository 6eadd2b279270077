"""A folded network as a file, in the format that the file's name says."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from repfold import models
from repfold.deploy.export import EXPORTERS
from repfold.deploy.write_back import write_back

FORMATS = (".safetensors", *EXPORTERS)


def write_plain(
    plain: models.Model,
    x: Tensor,
    path: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
) -> None:
    """Write a folded network to ``path``: a model file, ONNX, or PyTorch's .pt2.

    Args:
        x: the input that it was folded on.
        source: what it was read from; of an ONNX file, one that is written keeps the names, free sizes and nodes.

    Raises: RepFoldError when the network is none that the format holds.
    """
    suffix = Path(path).suffix
    if suffix == ".safetensors":
        models.save(plain.network, path, description=plain.description)
    elif suffix == ".onnx" and source is not None and models.is_onnx(source):
        write_back(plain.network, x, source, path)
    else:
        EXPORTERS[suffix](plain.network, x, path)
