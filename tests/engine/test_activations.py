"""The vectors' activation functions against float64, over all that float32 holds of interest, alone and in a layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import ACTIVATIONS, Graph, images, relative_error

from repfold import engine

# In units of the last place: e^x has two, the sum and the quotient a half each, and a factor that cancels more.
ULPS = {"sigmoid": 4, "silu": 4, "hardswish": 3, "hardsigmoid": 3, "gelu": 4, "gelu_tanh": 12}
# Results below this share of x count as if they were so large: e^y has the rounding of y too, which there is up to 88.
LEAST = {"gelu_tanh": 2.0**-20}


def values() -> np.ndarray:
    """Every magnitude from the smallest number to where e^x is 0 or infinite, both signs, and what is no number."""
    grid = np.linspace(-104, 104, 6001)
    tiny = np.logspace(-44, 0, 900)
    special = [0.0, -0.0, 88.8, -88.8, 103.9, -103.9, 1e30, np.inf, np.nan]
    return np.concatenate([grid, tiny, -tiny, special]).astype(np.float32)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("within", ["alone", "1x1", "depthwise"])
def test_activation_equals_float64(kind: str, within: str, kernels: str, tmp_path: Path) -> None:
    x = np.resize(values(), 21 * 19 * 20).reshape(1, 21, 19, 20)
    graph = Graph(x)
    at = "x"
    if within != "alone":  # a convolution that changes nothing
        depthwise = within == "depthwise"
        at = graph.conv("x", 21, (3, 3) if depthwise else (1, 1), groups=21 if depthwise else 1, bias=False)
        weight = next(iter(graph.tensors.values()))
        weight[:] = 0
        weight[(slice(None), 0, 1, 1) if depthwise else (range(21), range(21), 0, 0)] = 1
        x[~np.isfinite(x)] = 1  # of which 0 times would be NaN
        graph.values[at] = x.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = graph.save(tmp_path / "m.safetensors", graph.activation(at, kind))
    got = engine.load(tmp_path / "m.safetensors", threads=1, kernels=kernels)(x).reshape(expected.shape)
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    assert np.array_equal(np.isinf(got), np.isinf(expected))
    finite = np.isfinite(expected)
    # Where e^-x overflows, so does its sum with 1: what then is no more than 1e-36 becomes 0.
    least = np.minimum(np.abs(x.reshape(expected.shape)[finite].astype(np.float64)), 1e30) * LEAST.get(kind, 0)
    unit = np.maximum(np.spacing(np.maximum(np.abs(expected[finite]), least).astype(np.float32)), 1e-36)
    assert (np.abs(got[finite] - expected[finite]) / unit).max() <= ULPS.get(kind, 1)


@pytest.mark.parametrize("kind", ["sigmoid", "hardsigmoid"])
def test_a_value_times_its_sigmoid_is_one_activation(kind: str, kernels: str, tmp_path: Path) -> None:
    """As many networks write SiLU; it then is part of the convolution."""
    graph = Graph(images(2, 9, 7, 6))
    at = graph.conv("x", 21)
    gate = graph.activation(at, kind)
    at = graph.call("mul", at, graph.values[at] * graph.values[gate], other={"value": gate})
    expected = graph.save(tmp_path / "m.safetensors", graph.conv(at, 8, (1, 1)))
    loaded = engine.load(tmp_path / "m.safetensors", threads=1, kernels=kernels, convolution="direct")
    assert relative_error(loaded(graph.x), expected) < 2e-6
    assert {layer["kind"] for layer in loaded.plan(2, 9, 7, 6)["layers"]} == {"convolution"}


def test_the_comparison_sees_one_wrong_digit() -> None:
    expected = ACTIVATIONS["silu"][2](np.float64(3))
    wrong = np.float32(expected) * np.float32(1 + 1e-6)
    assert abs(wrong - expected) / np.spacing(np.float32(expected)) > ULPS["silu"]
