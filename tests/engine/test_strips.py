"""Depthwise and direct convolutions on random geometry: strips of every length, borders on either side, residuals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import Graph, bf16, images, relative_error

from repfold import engine

TOLERANCE = 2e-6
CASES = 24
Kind = Callable[[Graph, str, np.random.Generator], str]


def add(graph: Graph, a: str, b: str) -> str:
    return graph.call("add", a, graph.values[a] + graph.values[b], other={"value": b})


def depthwise(graph: Graph, at: str, random: np.random.Generator, width: int = 1) -> str:
    """Kernels with code of their own and without, square and not, both strides and more, dilated or not."""
    channels = graph.values[at].shape[1]
    side = int(random.choice([1, 2, 3, 3, 5, 5, 7, 7, 9]))
    kernel = (side, side) if random.random() < 0.7 else (side, int(random.choice([1, 3, 5])))
    stride, dilation = int(random.choice([1, 1, 2, 2, 3])), int(random.choice([1, 1, 1, 2]))
    padding = (int(random.integers(side + 1)) + dilation * side // 2, int(random.integers(4)) + dilation * 2)
    made = graph.conv(at, channels, kernel, stride, padding, groups=channels // width, dilation=dilation)
    if graph.values[made].shape == graph.values[at].shape and random.random() < 0.7:
        made = add(graph, made, at)
    return graph.activation(made, str(random.choice(["relu", "relu6", "silu", "hardswish", "leaky_relu"])))


def grouped(graph: Graph, at: str, random: np.random.Generator) -> str:
    """Groups of which vectors hold several, one, or a part."""
    width = int(random.choice([2, 4, 8, 16, 32]))
    return depthwise(graph, graph.conv(at, width * int(random.integers(1, 12)), (1, 1)), random, width)


def pointwise(graph: Graph, at: str, random: np.random.Generator) -> str:
    """1x1 convolutions, whose strips reach over the ends of rows and images, into images with and without a border."""
    made = graph.conv(at, int(random.integers(1, 90)), (1, 1))
    other = graph.conv(at, graph.values[made].shape[1], (3, 3))
    made = graph.activation(add(graph, made, other) if random.random() < 0.5 else made, "relu6")
    return graph.conv(made, 20, (3, 3)) if random.random() < 0.5 else add(graph, graph.activation(made, "silu"), other)


def any_convolution(graph: Graph, at: str, random: np.random.Generator, groups: int = 1) -> str:
    """Of any kernel, also on images so narrow that rows share a strip."""
    kernel = (int(random.choice([1, 1, 3, 3, 5, 7])), int(random.choice([1, 3, 3])))
    stride, dilation = int(random.choice([1, 1, 2, 3])), int(random.choice([1, 1, 2]))
    padding = (dilation * kernel[0] // 2 + int(random.integers(2)), dilation * kernel[1] // 2 + int(random.integers(3)))
    channels = graph.values[at].shape[1]
    out_channels = channels if random.random() < 0.3 else groups * int(random.integers(1, 60))
    made = graph.conv(at, out_channels, kernel, stride, padding, groups=groups, dilation=dilation)
    if graph.values[made].shape == graph.values[at].shape:
        made = add(graph, made, at)
    return graph.activation(made, str(random.choice(["relu", "relu6", "silu", "leaky_relu"])))


@pytest.mark.parametrize("kind", [depthwise, grouped, pointwise, any_convolution])
def test_random_geometry_equals_the_definition(kind: Kind, kernels: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for seed in range(CASES if kernels != "scalar" else 4):
        random = np.random.default_rng(seed)
        n, h, w = random.integers(1, [4, 20, 36])
        graph = Graph(images(n, int(random.integers(1, 70)), h, w), seed)
        expected = graph.save(path, kind(graph, graph.conv("x", int(random.integers(1, 60)), (1, 1)), random))
        threads = int(random.integers(1, 4))
        got = engine.load(path, threads=threads, kernels=kernels, convolution="direct")(graph.x)
        assert relative_error(got, expected) < TOLERANCE, (seed, n, h, w, threads)


@pytest.mark.parametrize("kernels", ["avx512", "amx"])
def test_bf16_rounds_nothing_but_inputs_and_weights(kernels: str, tmp_path: Path) -> None:
    """Of inputs and weights that bfloat16 has, a convolution in bf16 is as good as one in float32."""
    if {"avx512": "bf16"}.get(kernels, kernels) not in engine.cpu_kernels():
        pytest.skip(f"this CPU has no bf16 by {kernels}")
    path = tmp_path / "m.safetensors"
    for seed in range(60):
        random = np.random.default_rng(seed)
        n, h, w = random.integers(1, [4, 20, 40])
        channels = int(random.choice([random.integers(1, 100), 12 * random.integers(1, 9)]))
        graph = Graph(bf16(images(n, channels, h, w)), seed, bf16)
        groups = int(random.choice([1, 1, 1, 2, 3])) if channels % 12 == 0 else 1
        expected = graph.save(path, any_convolution(graph, "x", random, groups))
        threads = int(random.integers(1, 4))
        loaded = engine.load(path, threads=threads, precision="bf16", kernels=kernels, convolution="direct")
        tolerance = TOLERANCE if groups == 1 else 2**-8  # the results of groups are rounded as well
        assert relative_error(loaded(graph.x), expected) < tolerance, (seed, n, channels, h, w, groups, threads)
