"""Write the models that the native checks run: ``python -m tests.engine.native.write_models DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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


def general_network(path: Path) -> None:
    """Operators on tensors of any layout: joined, cut, shuffled, normalised, attended to, resized."""
    graph = Graph(images(1, 3, 24, 24))
    at = graph.activation(graph.conv("x", 20, stride=2), "relu")
    n, h, w = ({"size": ["//", ["+", size(axis), 1], 2] if axis else size(axis)} for axis in (0, 2, 3))

    def call(op: str, x: str, value: np.ndarray, /, **arguments: Any) -> str:
        return graph.call(op, x, value, **arguments)

    x = graph.values[at]
    joined = graph.value("cat", np.concatenate([x, x], 1), xs=[{"value": at}, {"value": at}], dim=1)
    split = call("view", joined, graph.values[joined].reshape(1, 4, 10, 12, 12), size=[n, 4, 10, h, w])
    turned = call("permute", split, graph.values[split].swapaxes(1, 2), dims=[0, 2, 1, 3, 4])
    mixed = call("view", turned, graph.values[turned].reshape(1, 40, 12, 12), size=[n, 40, h, w])
    cut = call("slice", mixed, graph.values[mixed][:, 3:23], dim=1, start=3, end=23, step=1)
    normed = call("group_norm", cut, graph.values[cut], groups=5, weight=None, bias=None, eps=1e-5)
    smooth = call("gelu", normed, graph.values[normed], approximate="none")
    scaled = call("mul", smooth, graph.values[smooth], other=0.5)

    def aten(op: str, value: np.ndarray, /, **arguments: Any) -> str:
        return graph.value(f"aten.{op}", value, **arguments)

    part = call("slice", scaled, x[:, :3], dim=1, start=0, end=3, step=1)
    held = aten("slice_scatter.default", x, self={"value": scaled}, src={"value": part}, dim=1, start=4, end=7, step=1)
    more = aten("ge.Scalar", x, self={"value": held}, other=0.1)
    chosen = aten("where.self", x, condition={"value": more}, self={"value": held}, other={"value": cut})
    twice = aten("repeat.default", np.concatenate([x, x], 1), self={"value": chosen}, repeats=[1, 2, 1, 1])
    gated = aten("glu.default", x, self={"value": twice}, dim=1)
    summed = aten("cumsum.default", x, self={"value": gated}, dim=2, dtype=None)
    ranks = aten("arange.start", np.zeros(12), start=1, end={"size": ["+", w["size"], 1]})
    scaled = call("div", summed, x, other={"value": ranks})
    columns = aten("im2col.default", np.zeros((1, 80, 36)), self={"value": scaled}, kernel_size=[2, 2], dilation=[1, 2],
                   padding=[0, 1], stride=[2, 2])  # fmt: skip
    largest = aten("logsumexp.default", np.zeros((1, 80)), self={"value": columns}, dim=[2], keepdim=False)
    volume = call("view", scaled, x.reshape(1, 1, 20, 12, 12), size=[n, 1, 20, h, w])
    kernel = {"weight": np.full((1, 1, 3, 3, 1), 0.2, np.float32)}
    mixed = graph.layer("conv", volume, graph.values[volume], kernel, bias=None, stride=[1, 1, 1], padding=[1, 1, 0],
                        dilation=[1, 1, 1], groups=1, transposed=False, output_padding=[0, 0, 0])  # fmt: skip
    scaled = call("view", mixed, x, size=[n, 20, h, w])
    padded = call("pad", scaled, np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 1)), mode="edge"),
                  pads=[0, 1, 1, 0], mode="replicate", value=0.0)  # fmt: skip
    grown = call(
        "resize", padded, np.zeros((1, 20, 9, 7)), size=[9, 7], mode="bilinear", align_corners=False, scale=None
    )
    tokens = call("view", grown, np.zeros((1, 20, 63)), size=[n, 20, 63])
    rows = call("permute", tokens, np.zeros((1, 63, 20)), dims=[0, 2, 1])
    products = call("matmul", rows, np.zeros((1, 63, 63)), other={"value": tokens})
    weights = call("softmax", products, np.zeros((1, 63, 63)), dim=2)
    attended = call("matmul", weights, np.zeros((1, 63, 20)), other={"value": rows})
    last = call("layer_norm", attended, np.zeros((1, 63, 20)), shape=[20], weight=None, bias=None, eps=1e-5)
    mean = call("mean", last, np.zeros((1, 20)), dims=[1], keepdim=False)
    both = graph.value("cat", np.zeros((1, 100)), xs=[{"value": mean}, {"value": largest}], dim=1)
    graph.save(path, graph.linear(both, 10))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    plain_network(folder / "plain.safetensors", images(1, 3, 16, 16), (16, 50))
    branched_network(folder / "branched.safetensors")
    general_network(folder / "general.safetensors")
