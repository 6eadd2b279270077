"""Winograd tiles of every size, threads and ways to divide the work, against the scalar reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import Graph, images, plain_network, relative_error

from repfold import engine

# The error of one convolution relative to its largest result, by tile: the transforms of larger tiles cancel more.
# Ten times the root mean square that the points were chosen by.
TOLERANCES = {"direct": 1e-6, "2x2": 2.5e-6, "4x2": 4e-6, "3x3": 3e-6, "4x4": 4e-6, "5x5": 7e-6, "6x6": 2e-5}
STRIDE_2 = ("2x2", "4x2", "3x3", "4x4", "5x5")  # the tiles that it has
VECTOR_KERNELS = [name for name in ("avx2", "avx512") if engine.available() is None and name in engine.cpu_kernels()]


@pytest.mark.parametrize("convolution", TOLERANCES)
@pytest.mark.parametrize("kernels", VECTOR_KERNELS)
def test_tile_equals_the_reference(convolution: str, kernels: str, tmp_path: Path) -> None:
    """Odd sizes, images smaller than a tile, channels that fill no vector, a padding other than 1."""
    path = tmp_path / "m.safetensors"
    sizes = [(1, 1, 1), (2, 3, 5), (1, 7, 7), (3, 13, 9), (2, 8, 17)]
    channels = [(16, 16), (17, 50), (64, 33), (20, 100), (33, 7)]
    for index, ((n, h, w), (i, o)) in enumerate(zip(sizes, channels, strict=True)):
        graph = Graph(images(n, i, h, w), seed=index)
        padding = (1, 1) if min(h, w) < 8 else (index % 2, 2)
        first = graph.activation(graph.conv("x", o, padding=padding), "relu")
        graph.save(path, first)
        expected = engine.load(path, threads=1, kernels="scalar")(graph.x)
        for threads in (1, 2, 3):
            got = engine.load(path, threads=threads, kernels=kernels, convolution=convolution)(graph.x)
            assert relative_error(got, expected) < TOLERANCES[convolution], (n, h, w, i, o, threads)


@pytest.mark.parametrize("convolution", STRIDE_2)
@pytest.mark.parametrize("kernels", VECTOR_KERNELS)
def test_tile_of_stride_2_equals_the_definition(convolution: str, kernels: str, tmp_path: Path) -> None:
    """On random geometry, with a residual or without, against float64; by any number of threads the same bits."""
    path = tmp_path / "m.safetensors"
    for seed in range(8):
        random = np.random.default_rng(seed)
        n, h, w = (int(size) for size in random.integers(1, [5, 34, 34]))
        graph = Graph(images(n, int(random.integers(16, 90)), h, w), seed)
        padding = tuple(int(size) for size in random.integers([h < 3, w < 3], 4))
        out_channels = int(random.integers(1, 120))
        made = graph.conv("x", out_channels, stride=2, padding=padding)
        if random.random() < 0.5:
            other = graph.conv("x", out_channels, stride=2, padding=padding)
            made = graph.call("add", made, graph.values[made] + graph.values[other], other={"value": other})
        expected = graph.save(path, graph.activation(made, str(random.choice(["relu", "silu", "relu6"]))))
        got = []
        for threads in (1, 2, 3):
            loaded = engine.load(path, threads=threads, kernels=kernels, convolution=convolution)
            got.append(loaded(graph.x))
            assert relative_error(got[-1], expected) < TOLERANCES[convolution], (seed, n, h, w, padding, threads)
        assert all(np.array_equal(one, got[0]) for one in got)
        algorithms = {layer["algorithm"] for layer in loaded.plan(*graph.x.shape)["layers"] if "stride" in layer}
        assert algorithms == {f"winograd F({convolution},3x3/2)"}


def test_tile_of_stride_2_in_every_split(tmp_path: Path) -> None:
    """Weights that stay in no cache: one image, threads on channels and points; many tiles, and few."""
    path, splits = tmp_path / "m.safetensors", set()
    for channels, n, size, threads in (
        (160, 1, 14, 1),
        (160, 1, 14, 2),
        (160, 9, 14, 2),
        (48, 2, 30, 2),
        (390, 1, 9, 2),
    ):
        graph = Graph(images(n, channels, size, size))
        expected = graph.save(path, graph.conv("x", channels, stride=2))
        for convolution in ("3x3", "4x4"):
            loaded = engine.load(path, threads=threads, convolution=convolution)
            assert relative_error(loaded(graph.x), expected) < TOLERANCES[convolution]
            splits |= {layer["split"] for layer in loaded.plan(*graph.x.shape)["layers"] if "split" in layer}
    assert splits == {"tiles", "channels", "points"}


def test_bf16_tile_has_the_error_of_bf16(tmp_path: Path) -> None:
    """F(2x2) rounds its transformed input where a direct convolution rounds its input; larger tiles amplify that.

    Pixel by pixel F(2x2) has one and a half times the error of a direct convolution; over an image it averages out.
    """
    if "bf16" not in engine.cpu_kernels():
        pytest.skip("this CPU has no bf16")
    path, x = tmp_path / "m.safetensors", images(2, 32, 20, 20)
    graph, at = Graph(x), "x"
    for _ in range(4):
        at = graph.activation(graph.conv(at, 64), "relu")
    expected = graph.save(path, graph.conv(at, 64))
    errors = {}
    for convolution in ("direct", "2x2", "6x6"):
        got = engine.load(path, threads=1, precision="bf16", convolution=convolution)(x).reshape(expected.shape)
        errors[convolution] = float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))
    assert errors["2x2"] < 1.75 * errors["direct"], errors
    assert errors["6x6"] > 5 * errors["direct"], errors
    chosen = engine.load(path, threads=1, precision="bf16", kernels="avx512").plan(8, 32, 56, 56)
    tiles = {layer["algorithm"] for layer in chosen["layers"] if layer["algorithm"].startswith("winograd")}
    assert tiles == {"winograd F(2x2,3x3)"}


def test_every_way_to_divide_the_work_is_taken(tmp_path: Path) -> None:
    """The plans that the tests run do cover blocks of tiles, slices of channels and points."""
    path = tmp_path / "m.safetensors"
    graph = Graph(images(1, 192, 14, 14))
    wide = graph.conv(graph.activation(graph.conv("x", 192), "relu"), 192)
    graph.save(path, wide)
    loaded = engine.load(path, threads=2)
    reference = engine.load(path, threads=1, convolution="direct")
    splits = set()
    for n, size in ((1, 14), (1, 7), (8, 14), (1, 28)):
        x = images(n, 192, size, size)
        plan = loaded.plan(n, 192, size, size)
        splits |= {layer["split"] for layer in plan["layers"] if "split" in layer}
        assert relative_error(loaded(x), reference(x)) < 1e-5
    small = Graph(images(4, 16, 24, 24))
    small.save(path, small.conv(small.conv("x", 32), 32))
    splits |= {layer.get("split") for layer in engine.load(path, threads=2).plan(4, 16, 24, 24)["layers"]}
    assert {"tiles", "channels", "points"} <= splits


def test_logits_within_1e5_of_float64(tmp_path: Path) -> None:
    path, x = tmp_path / "m.safetensors", images(2, 3, 96, 96)
    expected = plain_network(path, x, (48, 48, 96, 192), depth=3)
    for kernels in VECTOR_KERNELS:
        for batch in (1, 2):
            got = engine.load(path, threads=2, kernels=kernels)(x[:batch])
            assert relative_error(got, expected[:batch]) < 1e-5
