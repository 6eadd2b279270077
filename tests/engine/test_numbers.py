"""Infinities, NaN, denormals and overflow: what the scalar reference gives, with every tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import Graph, images

from repfold import engine

SPECIAL = {
    "nan": np.nan,
    "infinity": np.inf,
    "minus infinity": -np.inf,
    "overflow": 3e38,
    "denormal": 1e-40,
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("value", SPECIAL)
def test_special_values_as_the_reference(value: str, precision: str, tmp_path: Path) -> None:
    if precision == "bf16" and "bf16" not in engine.cpu_kernels():
        pytest.skip("this CPU has no bf16")
    path = tmp_path / "m.safetensors"
    graph = Graph(images(2, 18, 12, 12))
    at = graph.activation(graph.conv(graph.activation(graph.conv("x", 33), "relu"), 20), "relu")
    graph.save(path, graph.max_pool(at, graph.values[at], 2, 2, 0))
    x = images(2, 18, 12, 12)
    x[0, 3, 5, 7] = SPECIAL[value]
    expected = engine.load(path, threads=1, kernels="scalar")(x)
    for convolution in ("direct", "2x2", "3x3", "4x4", "auto"):
        got = engine.load(path, threads=2, precision=precision, convolution=convolution)(x)
        assert np.array_equal(np.isnan(got), np.isnan(expected))
        finite = np.isfinite(expected)
        if value != "overflow":  # whether a sum near the largest number overflows depends on the order of its terms
            assert np.array_equal(np.isposinf(got), np.isposinf(expected))
        else:
            finite &= np.isfinite(got) & (np.abs(expected) < 1e30)
        scale = np.full(expected.shape, np.abs(expected[finite & (np.abs(expected) < 1e30)]).max())
        if value == "overflow" and convolution in ("3x3", "auto"):
            # F(3x3) does not overflow here: its rounding is relative to the largest value of the tile. The other image
            # has none such.
            scale[0] = np.abs(expected[np.isfinite(expected)]).max()
        close = np.abs(got[finite] - expected[finite]) / np.maximum(np.abs(expected[finite]), scale[finite])
        assert close.max() < (1e-5 if precision == "fp32" else 3e-2)


def test_relu_keeps_nan(kernels: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for kind in ("relu", "relu6", "leaky_relu", "hardswish"):
        graph = Graph(images(1, 4, 5, 5))
        graph.save(path, graph.activation(graph.conv("x", 16, (1, 1)), kind))
        x = images(1, 4, 5, 5)
        x[0, 0, 2, 2] = np.nan
        got = engine.load(path, threads=1, kernels=kernels)(x).reshape(16, 5, 5)
        assert np.isnan(got[:, 2, 2]).all()
        assert np.isnan(got).sum() == 16
