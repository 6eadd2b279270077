"""Write the models that the native checks run: ``python write_models.py DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from engine_models import Graph, images, plain_network


def branched_network(path: Path) -> None:
    """Residuals, groups, depthwise, strips, squeeze-excite, poolings, slices: channels that fill no vector."""
    graph = Graph(images(1, 3, 24, 24))
    at = graph.activation(graph.conv("x", 20, stride=2), "ReLU")
    inner = graph.conv(graph.activation(graph.conv(at, 37), "LeakyReLU"), 20)
    total = graph.values[at] + graph.values[inner]
    at = graph.activation(graph.call("call_function", "operator.add", [{"node": at}, {"node": inner}], total), "ReLU")
    at = graph.activation(graph.conv(at, 20, groups=20), "Hardswish")
    at = graph.conv(graph.conv(at, 24, (1, 3)), 24, (3, 1), groups=2)
    pooled = graph.values[at].mean((2, 3), keepdims=True)
    gate = graph.layer("AdaptiveAvgPool2d", at, pooled, {}, output_size=1)
    gate = graph.activation(graph.conv(gate, 24, (1, 1)), "Sigmoid")
    scaled = graph.values[at] * graph.values[gate]
    at = graph.call("call_function", "operator.mul", [{"node": at}, {"node": gate}], scaled)
    steps = [{"slice": [None, None, step]} for step in (None, None, 2, 1)]
    pixels = graph.values[at][:, :, ::2]
    at = graph.call("call_function", "operator.getitem", [{"node": at}, {"tuple": steps}], pixels)
    padded = np.pad(pixels, ((0, 0), (2, 3), (0, 1), (1, 0)))
    sides = {"tuple": [1, 0, 0, 1, 2, 3]}
    at = graph.call("call_function", "torch.nn.functional.pad", [{"node": at}, sides], padded)
    at = graph.layer("MaxPool2d", at, graph.values[at], {}, kernel_size=3, stride=1, padding=1)
    graph.save(path, graph.head(graph.conv(at, 49, (5, 5), stride=2)))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    plain_network(folder / "plain.safetensors", images(1, 3, 16, 16), (16, 50))
    branched_network(folder / "branched.safetensors")
