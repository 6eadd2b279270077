"""Steps that are computed in bands of rows give the bits of steps that are computed whole, in less memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import Graph, images, relative_error

from repfold import engine

CASES = 40


def chain(graph: Graph, random: np.random.Generator) -> str:
    """Layers of which each reads the one before, with residuals from within and from before the chain."""
    at = graph.conv("x", 16, (1, 1))
    earlier = [at]
    for _ in range(int(random.integers(2, 9))):
        channels = graph.values[at].shape[1]
        kind = random.choice(["conv", "conv", "pointwise", "depthwise", "grouped", "max", "residual", "silu", "gate"])
        if kind == "residual":
            same = [name for name in earlier if graph.values[name].shape == graph.values[at].shape and name != at]
            if same:
                other = str(random.choice(same))
                at = graph.call("add", at, graph.values[at] + graph.values[other], other={"value": other})
        elif kind == "max":
            at = pooled(graph, at, int(random.integers(1, 3)))
        elif kind == "silu":
            at = graph.activation(at, "silu")
        elif kind == "gate":
            gate = graph.mean("x")
            gate = graph.activation(graph.conv(gate, channels, (1, 1)), "sigmoid")
            at = graph.call("mul", at, graph.values[at] * graph.values[gate], other={"value": gate})
        else:
            at = graph.activation(convolution(graph, at, str(kind), random), str(random.choice(["relu", "silu"])))
        earlier.append(at)
    return graph.conv(at, 5, (1, 1))


def convolution(graph: Graph, at: str, kind: str, random: np.random.Generator) -> str:
    channels = graph.values[at].shape[1]
    if kind == "pointwise":
        return graph.conv(at, int(random.choice([16, 48, 72])), (1, 1), stride=int(random.choice([1, 1, 1, 2])))
    groups = {"conv": 1, "depthwise": channels, "grouped": max(1, channels // 4)}[kind]
    kernel = (int(random.choice([1, 3, 3, 5])), int(random.choice([1, 3, 3])))
    if random.random() < 0.5:
        kernel = (kernel[0], kernel[0])
    stride, dilation = int(random.choice([1, 1, 1, 2, 3])), int(random.choice([1, 1, 1, 2]))
    padding = tuple(dilation * (side // 2) + int(random.integers(2)) for side in kernel)
    out_channels = channels if groups > 1 or random.random() < 0.5 else int(random.choice([16, 24, 64]))
    return graph.conv(at, out_channels, kernel, stride, (padding[0], padding[1]), groups, dilation)


def pooled(graph: Graph, at: str, stride: int) -> str:
    x = np.pad(graph.values[at], ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    return graph.max_pool(at, windows.max((-2, -1)), 3, stride, 1)


def bands_of(loaded: engine.Engine, x: np.ndarray) -> int:
    return sum(layer["in_bands"] for layer in loaded.plan(*x.shape)["layers"])


def test_bands_change_no_bit(kernels: str, tmp_path: Path) -> None:
    path, counted = tmp_path / "m.safetensors", 0
    for seed in range(CASES if kernels != "scalar" else 8):
        random = np.random.default_rng(seed)
        n, h, w = random.integers(1, [4, 40, 30])
        graph = Graph(images(n, 3, h, w), seed)
        expected = graph.save(path, chain(graph, random))
        whole = engine.load(path, threads=1, kernels=kernels, convolution="direct whole")
        reference = whole(graph.x)
        assert bands_of(whole, graph.x) == 0
        assert relative_error(reference, expected) < 5e-6, seed
        for threads in (1, 2, 5):
            bands = engine.load(path, threads=threads, kernels=kernels, convolution="direct bands")
            counted += bands_of(bands, graph.x)
            for _ in range(2):  # the second call finds what the first has left
                assert np.array_equal(bands(graph.x), reference), (seed, threads)
    assert counted > 3 * 3 * (CASES if kernels != "scalar" else 8)


@pytest.mark.parametrize("kernels", ["avx512", "amx"])
def test_bands_change_no_bit_in_bf16(kernels: str, tmp_path: Path) -> None:
    if {"avx512": "bf16"}.get(kernels, kernels) not in engine.cpu_kernels():
        pytest.skip(f"this CPU has no bf16 by {kernels}")
    path = tmp_path / "m.safetensors"
    for seed in range(CASES):
        random = np.random.default_rng(seed)
        n, h, w = random.integers(1, [4, 40, 30])
        graph = Graph(images(n, 3, h, w), seed)
        graph.save(path, chain(graph, random))
        settings = {"precision": "bf16", "kernels": kernels}
        reference = engine.load(path, threads=1, convolution="direct whole", **settings)(graph.x)
        bands = engine.load(path, threads=2, convolution="direct bands", **settings)
        assert np.array_equal(bands(graph.x), reference), seed


def test_infinities_and_nans_go_where_they_would(tmp_path: Path) -> None:
    """And nowhere else: what one image leaves in the rows, the next does not read."""
    path = tmp_path / "m.safetensors"
    graph = Graph(images(1, 3, 30, 30))
    at = graph.activation(graph.conv(graph.conv("x", 20), 20, groups=20), "relu")
    graph.save(path, graph.conv(at, 7, (1, 1)))
    whole, bands = (engine.load(path, threads=2, convolution=f"direct {how}") for how in ("whole", "bands"))
    spoilt = graph.x.copy()
    spoilt[0, 1, 12, 7], spoilt[0, 2, 29, 29] = np.nan, np.inf
    for x in (graph.x, spoilt, graph.x):
        assert np.array_equal(bands(x), whole(x), equal_nan=True)


def test_large_results_are_not_kept_whole(tmp_path: Path) -> None:
    """An inverted residual block of a large image: in bands where it is worth it, and without being asked."""
    path = tmp_path / "m.safetensors"
    graph = Graph(images(1, 16, 112, 112))
    at = graph.activation(graph.conv("x", 96, (1, 1)), "relu6")
    at = graph.activation(graph.conv(at, 96, groups=96), "relu6")
    graph.save(path, graph.conv(at, 16, (1, 1)))
    whole, bands = engine.load(path, convolution="auto whole"), engine.load(path)
    assert (bands_of(whole, graph.x), bands_of(bands, graph.x)) == (0, 3)
    memory = [loaded.plan(*graph.x.shape)["buffers"]["activations"] for loaded in (whole, bands)]
    assert memory[1] < memory[0] / 3
    assert np.array_equal(bands(graph.x), whole(graph.x))
    assert bands_of(bands, graph.x[:, :, :20, :20]) == 0
    assert (bands.time_layers(graph.x) > 0).all()


def test_an_unknown_word_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    graph = Graph(images(1, 3, 8, 8))
    graph.save(path, graph.conv("x", 4))
    with pytest.raises(engine.EngineError, match=r"unknown 'stripes'; known: whole, bands"):
        engine.load(path, convolution="auto stripes")
