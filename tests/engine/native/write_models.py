"""Write the models that the native checks run: ``python -m tests.engine.native.write_models DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tests.engine.engine_models import Graph, images, plain_network, size


def branched_network(path: Path) -> None:
    """Residuals, groups, depthwise, strips, squeeze-excite, poolings, slices, sizes: channels that fill no vector."""
    graph = Graph(images(1, 3, 24, 24))
    at = graph.activation(graph.conv("x", 20, stride=2), "relu")
    inner = graph.conv(graph.activation(graph.conv(at, 37), "leaky_relu"), 20)
    added = graph.call("add", at, graph.values[at] + graph.values[inner], other={"value": inner})
    at = graph.activation(graph.conv(graph.activation(added, "relu"), 20, groups=20), "hardswish")
    at = graph.conv(graph.conv(at, 24, (1, 3)), 24, (3, 1), groups=2)
    gate = graph.activation(graph.conv(graph.mean(at), 24, (1, 1)), "sigmoid")
    at = graph.call("mul", at, graph.values[at] * graph.values[gate], other={"value": gate})
    pixels = graph.values[at][:, :, ::2]
    at = graph.call("slice", at, pixels, dim=2, start=0, end=None, step=2)
    padded = np.pad(pixels, ((0, 0), (2, 3), (0, 0), (1, 0)))
    odd = {"size": ["%", ["//", size(3), 2], 2]}
    at = graph.call("pad", at, padded, pads=[1, odd, 0, 0, 2, 3], mode="constant", value=0.0)
    at = graph.max_pool(at, graph.values[at], 3, 1, 1)
    graph.save(path, graph.head(graph.conv(at, 49, (5, 5), stride=2)))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    plain_network(folder / "plain.safetensors", images(1, 3, 16, 16), (16, 50))
    branched_network(folder / "branched.safetensors")
