"""Every layer that the engine runs against the float64 oracle, with every set of kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from tests.engine.engine_models import ACTIVATIONS, Graph, images, relative_error, size

from repfold import engine

# float32 sums of a few hundred terms
TOLERANCE = 2e-6


def pool_windows(x: np.ndarray, kernel: int, stride: int, padding: int, fill: float) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    return sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]


def max_pool(graph: Graph, at: str) -> str:
    return graph.max_pool(at, pool_windows(graph.values[at], 3, 2, 1, -np.inf).max((-1, -2)), 3, 2, 1)


def average_pool(graph: Graph, at: str) -> str:
    value = pool_windows(graph.values[at], 3, 2, 1, 0).mean((-1, -2))
    window = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1]}
    return graph.call("avg_pool", at, value, **window, ceil_mode=False, count_include_pad=True, divisor=None)


def average_pool_of_pixels(graph: Graph, at: str) -> str:
    value = np.nanmean(pool_windows(graph.values[at], 2, 2, 1, np.nan), (-1, -2))
    window = {"kernel": [2], "stride": [2], "padding": [1]}
    return graph.call("avg_pool", at, value, **window, ceil_mode=False, count_include_pad=False, divisor=None)


def pool_of_the_whole_image(graph: Graph, at: str) -> str:
    """A window taken from the shape: as large as the image is."""
    window = {"kernel": [{"size": size(2)}, {"size": size(3)}], "stride": [1, 1], "padding": [0, 0]}
    value = graph.values[at].mean((2, 3), keepdims=True)
    return graph.call("avg_pool", at, value, **window, ceil_mode=False, count_include_pad=True, divisor=None)


def adaptive_pool(graph: Graph, at: str) -> str:
    x = graph.values[at]
    h, w = x.shape[2:]
    cut = lambda size: [(i * size // 3, -(-(i + 1) * size // 3)) for i in range(3)]  # noqa: E731
    value = np.stack([[x[:, :, a:b, c:d].mean((2, 3)) for c, d in cut(w)] for a, b in cut(h)]).transpose(2, 3, 0, 1)
    return graph.call("adaptive_avg_pool", at, value, size=[3, 3])


def combined(graph: Graph, op: str, a: str, b: str) -> str:
    value = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[op](graph.values[a], graph.values[b])
    return graph.call(op, a, value, other={"value": b})


def residual(graph: Graph, at: str) -> str:
    first = graph.activation(graph.conv(at, 24), "relu")
    second = graph.conv(graph.activation(graph.conv(first, 24), "relu"), 24)
    return graph.activation(combined(graph, "add", second, first), "relu")


def subtraction(graph: Graph, at: str) -> str:
    """f - A*u, as MgNet's smoother has it."""
    return combined(graph, "sub", graph.conv(at, 20), graph.conv(at, 20))


def every_second(graph: Graph, at: str, dim: int) -> str:
    x = graph.values[at]
    value = x[:, :, ::2] if dim == 2 else x[:, :, :, ::2]
    return graph.call("slice", at, value, dim=dim, start=0, end=None, step=2)


def sliced_shortcut(graph: Graph, at: str) -> str:
    """Every second pixel, with zeros around the channels: the shortcut without parameters of a ResNet for CIFAR."""
    rows = every_second(graph, at, 2)
    pixels = every_second(graph, rows, 3)
    value = np.pad(graph.values[pixels], ((0, 0), (1, 5), (0, 0), (0, 0)))
    padded = graph.call("pad", pixels, value, pads=[0, 0, 0, 0, 1, 5], mode="constant", value=0.0)
    return graph.activation(combined(graph, "add", graph.conv(at, 24, stride=2), padded), "relu")


def rows_used_twice(graph: Graph, at: str) -> str:
    rows = every_second(graph, at, 2)
    return combined(graph, "add", graph.mean(every_second(graph, rows, 3)), graph.mean(rows))


def zero_padding(graph: Graph, at: str) -> str:
    """As a fold puts it before a convolution that pads one side more; here by what makes the height even."""
    value = np.pad(graph.values[at], ((0, 0), (0, 0), (2, 1), (0, 1)))
    odd = {"size": ["%", size(2), 2]}
    padded = graph.call("pad", at, value, pads=[0, 1, 2, odd], mode="constant", value=0.0)
    return graph.conv(padded, 20, stride=2, padding=(0, 0))


def squeeze_excite(graph: Graph, at: str) -> str:
    image = graph.conv(at, 32)
    gate = graph.activation(graph.conv(graph.mean(image), 8, (1, 1)), "relu")
    gate = graph.activation(graph.conv(gate, 32, (1, 1)), "sigmoid")
    return combined(graph, "mul", gate, image)


def squeeze_excite_of_vectors(graph: Graph, at: str) -> str:
    """As the paper's own code has it: linear layers, and the gate viewed as an image."""
    image = graph.conv(at, 32)
    gate = graph.activation(graph.linear(graph.mean(image, keepdim=False), 8), "relu")
    gate = graph.activation(graph.linear(gate, 32), "sigmoid")
    value = graph.values[gate][:, :, None, None]
    return combined(graph, "mul", image, graph.call("view", gate, value, size=[{"size": size(0)}, 32, 1, 1]))


def batch_norm(graph: Graph, at: str) -> str:
    x, random = graph.values[at], graph.random
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: random.uniform(0.5, 1.5, x.shape[1]).astype(np.float32) for name in names}
    wide = {key: tensor.astype(np.float64)[:, None, None] for key, tensor in tensors.items()}
    value = (x - wide["running_mean"]) / np.sqrt(wide["running_var"] + 1e-5) * wide["weight"] + wide["bias"]
    return graph.layer("batch_norm", at, value, tensors, training=False, momentum=0.1, eps=1e-5)


LAYERS: dict[str, Callable[[Graph, str], str]] = {
    "3x3": lambda g, at: g.conv(at, 40),
    "3x3 stride 2": lambda g, at: g.conv(at, 49, stride=2),
    "3x3 no padding": lambda g, at: g.conv(at, 17, padding=(0, 0)),
    "3x3 wide padding": lambda g, at: g.conv(g.conv(at, 16), 16, padding=(3, 2)),
    "3x3 dilated": lambda g, at: g.conv(at, 24, dilation=2),
    "3x3 no bias": lambda g, at: g.conv(at, 24, bias=False),
    "1x1": lambda g, at: g.conv(at, 33, (1, 1)),
    "1x1 of one pixel, stride 2": lambda g, at: g.conv(g.mean(at), 20, (1, 1), stride=2),
    "5x5": lambda g, at: g.conv(at, 20, (5, 5), stride=2),
    "strips": lambda g, at: g.conv(g.conv(at, 20, (1, 3)), 12, (3, 1)),
    "even kernel": lambda g, at: g.conv(at, 20, (2, 4), padding=(1, 2)),
    "groups of few": lambda g, at: g.conv(g.conv(at, 24), 12, groups=4),
    "groups of many": lambda g, at: g.conv(g.conv(at, 48), 96, groups=2),
    "groups in a vector": lambda g, at: g.conv(g.conv(at, 28), 28, groups=7, stride=2),
    "depthwise": lambda g, at: g.conv(g.conv(at, 37), 37, groups=37, stride=2),
    "depthwise, multiplied": lambda g, at: g.conv(g.conv(at, 10), 20, groups=10),
    "max pool": max_pool,
    "average pool": average_pool,
    "average pool of pixels": average_pool_of_pixels,
    "pool of the whole image": pool_of_the_whole_image,
    "adaptive pool": adaptive_pool,
    "residual": residual,
    "subtraction": subtraction,
    "sliced shortcut": sliced_shortcut,
    "rows used twice": rows_used_twice,
    "zero padding": zero_padding,
    "squeeze-excite": squeeze_excite,
    "squeeze-excite of vectors": squeeze_excite_of_vectors,
    "batch norm": batch_norm,
    **{kind: lambda g, at, kind=kind: g.activation(g.conv(at, 21), kind) for kind in ACTIVATIONS},
}


BF16_LAYERS = (
    "3x3",
    "3x3 stride 2",
    "1x1",
    "groups of many",
    "groups in a vector",
    "depthwise",
    "residual",
    "max pool",
    "sliced shortcut",
)


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
    hidden = graph.activation(graph.linear(graph.flatten(graph.conv("x", 20)), 30), "relu")
    expected = graph.save(tmp_path / "m.safetensors", graph.linear(hidden, 7))
    loaded = engine.load(tmp_path / "m.safetensors", threads=1, kernels=kernels)
    assert relative_error(loaded(graph.x), expected) < TOLERANCE
    with pytest.raises(engine.EngineError, match="image size it was made for"):
        loaded(images(1, 3, 7, 4))


def test_sizes_are_those_of_the_call(tmp_path: Path) -> None:
    """What hangs on sizes is computed anew for every image: here the mean, as a pooling as large as the image is."""
    graph = Graph(images(2, 3, 9, 7))
    at = pool_of_the_whole_image(graph, graph.conv("x", 8))
    graph.save(tmp_path / "pooling.safetensors", at)
    other = Graph(images(2, 3, 9, 7))
    other.save(tmp_path / "mean.safetensors", other.mean(other.conv("x", 8)))
    pooling, mean = (engine.load(tmp_path / f"{name}.safetensors", threads=1) for name in ("pooling", "mean"))
    for x in (images(1, 3, 4, 12), images(3, 3, 9, 7), images(2, 3, 1, 1)):
        assert relative_error(pooling(x), mean(x)) < TOLERANCE


def test_a_check_refuses_other_images_with_its_reason(tmp_path: Path) -> None:
    graph = Graph(images(2, 3, 8, 8))
    graph.checks.append({"condition": ["==", ["%", size(2), 8], 0], "reason": "its forward decides by it (net.py:7)"})
    graph.save(tmp_path / "m.safetensors", graph.conv("x", 8))
    loaded = engine.load(tmp_path / "m.safetensors", threads=1)
    assert loaded(images(1, 3, 16, 5)).shape
    with pytest.raises(engine.EngineError, match=r"does not take images \[1, 3, 12, 8\].*net\.py:7"):
        loaded(images(1, 3, 12, 8))


def test_oracle_tells_a_wrong_network(tmp_path: Path) -> None:
    graph = Graph(images(1, 3, 9, 9))
    at = graph.conv("x", 16)
    expected = graph.save(tmp_path / "m.safetensors", at)
    name = next(key for key in graph.tensors if key.endswith("weight"))
    graph.tensors[name][0, 0, 0, 0] += 0.01
    graph.save(tmp_path / "m.safetensors", at)
    assert relative_error(engine.load(tmp_path / "m.safetensors", threads=1)(graph.x), expected) > 10 * TOLERANCE
