"""Every layer that the engine runs against the float64 oracle, with every set of kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_models import ACTIVATIONS, Graph, images, relative_error
from numpy.lib.stride_tricks import sliding_window_view

from repfold import engine

# float32 sums of a few hundred terms
TOLERANCE = 2e-6


def pool_windows(x: np.ndarray, kernel: int, stride: int, padding: int, fill: float) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    return sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]


def max_pool(graph: Graph, at: str) -> str:
    value = pool_windows(graph.values[at], 3, 2, 1, -np.inf).max((-1, -2))
    return graph.layer("MaxPool2d", at, value, {}, kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)


def average_pool(graph: Graph, at: str) -> str:
    value = pool_windows(graph.values[at], 3, 2, 1, 0).mean((-1, -2))
    return graph.layer("AvgPool2d", at, value, {}, kernel_size=3, stride=2, padding=1)


def average_pool_of_pixels(graph: Graph, at: str) -> str:
    x = graph.values[at]
    value = np.nanmean(pool_windows(x, 2, 2, 1, np.nan), (-1, -2))
    arguments = [{"node": at}, 2, 2, 1, False, False]
    return graph.call("call_function", "torch.nn.functional.avg_pool2d", arguments, value)


def adaptive_pool(graph: Graph, at: str) -> str:
    x = graph.values[at]
    h, w = x.shape[2:]
    cut = lambda size: [(i * size // 3, -(-(i + 1) * size // 3)) for i in range(3)]  # noqa: E731
    value = np.stack([[x[:, :, a:b, c:d].mean((2, 3)) for c, d in cut(w)] for a, b in cut(h)]).transpose(2, 3, 0, 1)
    return graph.layer("AdaptiveAvgPool2d", at, value, {}, output_size={"tuple": [3, 3]})


def residual(graph: Graph, at: str) -> str:
    first = graph.activation(graph.conv(at, 24), "ReLU")
    second = graph.conv(graph.activation(graph.conv(first, 24), "ReLU"), 24)
    total = graph.values[first] + graph.values[second]
    added = graph.call("call_function", "operator.add", [{"node": second}, {"node": first}], total)
    return graph.activation(added, "ReLU")


def subtraction(graph: Graph, at: str) -> str:
    """f - A*u, as MgNet's smoother has it."""
    first, second = graph.conv(at, 20), graph.conv(at, 20)
    value = graph.values[first] - graph.values[second]
    return graph.call("call_function", "operator.sub", [{"node": first}, {"node": second}], value)


def sliced_shortcut(graph: Graph, at: str) -> str:
    """Every second pixel, with zeros around the channels: the shortcut without parameters of a ResNet for CIFAR."""
    x = graph.values[at]
    whole, second = {"slice": [None, None, None]}, {"slice": [None, None, 2]}
    index = {"tuple": [whole, whole, second, second]}
    pixels = graph.call("call_function", "operator.getitem", [{"node": at}, index], x[:, :, ::2, ::2])
    value = np.pad(graph.values[pixels], ((0, 0), (1, 5), (0, 0), (0, 0)))
    sides = {"tuple": [0, 0, 0, 0, 1, 5]}
    padded = graph.call("call_function", "torch.nn.functional.pad", [{"node": pixels}, sides], value, mode="constant")
    conv = graph.conv(at, 24, stride=2)
    total = graph.values[conv] + value
    return graph.activation(
        graph.call("call_function", "operator.add", [{"node": conv}, {"node": padded}], total), "ReLU"
    )


def zero_padding(graph: Graph, at: str) -> str:
    """As a fold puts it before a convolution that pads one side more."""
    value = np.pad(graph.values[at], ((0, 0), (0, 0), (2, 0), (0, 1)))
    padded = graph.layer("ZeroPad2d", at, value, {}, padding={"tuple": [0, 1, 2, 0]})
    return graph.conv(padded, 20, stride=2, padding=(0, 0))


def squeeze_excite(graph: Graph, at: str) -> str:
    image = graph.conv(at, 32)
    mean = graph.values[image].mean((2, 3), keepdims=True)
    gate = graph.call("call_method", "mean", [{"node": image}, {"tuple": [2, 3]}], mean, keepdim=True)
    gate = graph.activation(graph.conv(gate, 8, (1, 1)), "ReLU")
    gate = graph.activation(graph.conv(gate, 32, (1, 1)), "Sigmoid")
    value = graph.values[image] * graph.values[gate]
    return graph.call("call_function", "operator.mul", [{"node": gate}, {"node": image}], value)


def batch_norm(graph: Graph, at: str) -> str:
    x, random = graph.values[at], graph.random
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: random.uniform(0.5, 1.5, x.shape[1]).astype(np.float32) for name in names}
    wide = {key: tensor.astype(np.float64)[:, None, None] for key, tensor in tensors.items()}
    value = (x - wide["running_mean"]) / np.sqrt(wide["running_var"] + 1e-5) * wide["weight"] + wide["bias"]
    return graph.layer("BatchNorm2d", at, value, tensors, num_features=x.shape[1], eps=1e-5)


LAYERS: dict[str, Callable[[Graph, str], str]] = {
    "3x3": lambda g, at: g.conv(at, 40),
    "3x3 stride 2": lambda g, at: g.conv(at, 49, stride=2),
    "3x3 no padding": lambda g, at: g.conv(at, 17, padding=(0, 0)),
    "3x3 wide padding": lambda g, at: g.conv(g.conv(at, 16), 16, padding=(3, 2)),
    "3x3 dilated": lambda g, at: g.conv(at, 24, dilation=2),
    "3x3 no bias": lambda g, at: g.conv(at, 24, bias=False),
    "1x1": lambda g, at: g.conv(at, 33, (1, 1)),
    "5x5": lambda g, at: g.conv(at, 20, (5, 5), stride=2),
    "strips": lambda g, at: g.conv(g.conv(at, 20, (1, 3)), 12, (3, 1)),
    "even kernel": lambda g, at: g.conv(at, 20, (2, 4), padding=(1, 2)),
    "groups of few": lambda g, at: g.conv(g.conv(at, 24), 12, groups=4),
    "groups of many": lambda g, at: g.conv(g.conv(at, 48), 96, groups=2),
    "depthwise": lambda g, at: g.conv(g.conv(at, 37), 37, groups=37, stride=2),
    "depthwise, multiplied": lambda g, at: g.conv(g.conv(at, 10), 20, groups=10),
    "max pool": max_pool,
    "average pool": average_pool,
    "average pool of pixels": average_pool_of_pixels,
    "adaptive pool": adaptive_pool,
    "residual": residual,
    "subtraction": subtraction,
    "sliced shortcut": sliced_shortcut,
    "zero padding": zero_padding,
    "squeeze-excite": squeeze_excite,
    "batch norm": batch_norm,
    **{kind: lambda g, at, kind=kind: g.activation(g.conv(at, 21), kind) for kind in ACTIVATIONS},
}


BF16_LAYERS = "3x3", "3x3 stride 2", "1x1", "groups of many", "depthwise", "residual", "max pool", "sliced shortcut"


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_its_definition(name: str, kernels: str, tmp_path: Path) -> None:
    graph = Graph(images(2, 5, 13, 11))
    expected = graph.save(tmp_path / "m.safetensors", LAYERS[name](graph, graph.conv("x", 18)))
    got = engine.load(tmp_path / "m.safetensors", threads=2, kernels=kernels)(graph.x)
    assert relative_error(got, expected) < TOLERANCE


@pytest.mark.parametrize("name", BF16_LAYERS)
def test_layer_in_bf16(name: str, tmp_path: Path) -> None:
    if "bf16" not in engine.cpu_kernels():
        pytest.skip("this CPU has no bf16")
    graph = Graph(images(2, 5, 13, 11))
    expected = graph.save(tmp_path / "m.safetensors", LAYERS[name](graph, graph.conv("x", 18)))
    got = engine.load(tmp_path / "m.safetensors", threads=2, precision="bf16")(graph.x)
    # Each of two layers rounds its input and its weights to 8 bits.
    assert 1e-7 < relative_error(got, expected) < 2e-2


def test_vgg_head_flattens_in_channel_order(kernels: str, tmp_path: Path) -> None:
    graph = Graph(images(3, 3, 6, 4))
    at = graph.conv("x", 20)
    flat = graph.layer("Flatten", at, graph.values[at].reshape(3, -1), {}, start_dim=1, end_dim=-1)
    hidden = graph.activation(graph.linear(flat, 30), "ReLU")
    expected = graph.save(tmp_path / "m.safetensors", graph.linear(hidden, 7))
    loaded = engine.load(tmp_path / "m.safetensors", threads=1, kernels=kernels)
    assert relative_error(loaded(graph.x), expected) < TOLERANCE
    with pytest.raises(engine.EngineError, match="image size it was made for"):
        loaded(images(1, 3, 7, 4))


def test_view_by_batch_size(tmp_path: Path) -> None:
    graph = Graph(images(2, 3, 5, 5))
    at = graph.conv("x", 8)
    size = graph.call("call_method", "size", [{"node": at}, 0], np.zeros(0))
    flat = graph.values[at].reshape(2, -1)
    output = graph.call("call_method", "view", [{"node": at}, {"node": size}, -1], flat)
    expected = graph.save(tmp_path / "m.safetensors", output)
    assert relative_error(engine.load(tmp_path / "m.safetensors", threads=1)(graph.x), expected) < TOLERANCE


def test_oracle_tells_a_wrong_network(tmp_path: Path) -> None:
    graph = Graph(images(1, 3, 9, 9))
    at = graph.conv("x", 16)
    expected = graph.save(tmp_path / "m.safetensors", at)
    name = next(key for key in graph.tensors if key.endswith("weight"))
    graph.tensors[name][0, 0, 0, 0] += 0.01
    graph.save(tmp_path / "m.safetensors", at)
    assert relative_error(engine.load(tmp_path / "m.safetensors", threads=1)(graph.x), expected) > 10 * TOLERANCE
