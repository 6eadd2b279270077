"""The module path of an ONNX node, and the names of its weights there."""

from __future__ import annotations

import ast
import re
from typing import Any

from torch import nn

DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+", re.ASCII)  # "layer1.0.conv.weight", as PyTorch names state
SCOPES = "pkg.torch.onnx.name_scopes"  # the metadata of PyTorch's exporter: "['', 'layer1', 'layer1.conv', 'conv2d']"
TAKEN = frozenset(dir(nn.Module))  # a submodule or parameter cannot have such a name


def scope_of(node: Any) -> str:
    """The path of the module whose forward made the node, "" where unknown.

    "/layer1/layer1.0/conv/Conv" (PyTorch), "model/block/conv/Conv2D" (TensorFlow) and the exporter's own note are read.
    """
    for prop in node.metadata_props:
        if prop.key == SCOPES:
            scopes = _list(prop.value)
            if len(scopes) > 1:
                return plain(scopes[-2])
    path, last = "", ""
    for part in [part for part in node.name.split("/") if part][:-1]:
        # PyTorch writes an item of a list with the list's name before it: "layer1", then "layer1.0".
        repeats = last and part.startswith(last + ".")
        path = path[: len(path) - len(last)] + part if repeats else f"{path}.{part}" if path else part
        last = part
    return plain(path)


def _list(text: str) -> list[str]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [str(item) for item in found] if isinstance(found, list) else []


def plain(name: str) -> str:
    """``name`` as a dotted path of plain words."""
    parts = [re.sub(r"\W", "_", part, flags=re.ASCII) for part in re.split(r"[./]", name.removesuffix(":0"))]
    return ".".join(f"{part}_" if part in TAKEN else part for part in parts if part)


class Paths:
    """The paths assigned so far, of which none is equal to or the beginning of another."""

    def __init__(self) -> None:
        self.given: set[str] = set()
        self.folders: set[str] = set()

    def give(self, wanted: str) -> str:
        """``wanted``, or a variant of it that is free."""
        wanted = wanted or "constant"
        count = 0
        path = wanted
        while not self._free(path):
            count += 1
            path = f"{wanted}_{count}"
        self.given.add(path)
        self.folders.update(_folders(path))
        return path

    def _free(self, path: str) -> bool:
        return path not in self.given | self.folders and not any(folder in self.given for folder in _folders(path))


def _folders(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
