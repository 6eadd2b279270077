"""Folded model files written without PyTorch, and an independent oracle: each layer in numpy, float64, NCHW."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import save_file

# name -> its operator, the operator's arguments, and its value.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "relu": ("relu", {}, lambda x: np.where(x < 0, 0, x)),
    "clamp": ("clamp", {"low": 0, "high": None}, lambda x: np.where(x < 0, 0, x)),
    "relu6": ("clamp", {"low": 0.0, "high": 6.0}, lambda x: np.clip(x, 0, 6)),
    "leaky_relu": ("leaky_relu", {"slope": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x)),
    "hardswish": ("hardswish", {}, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hardsigmoid": ("hardsigmoid", {}, lambda x: np.clip(x + 3, 0, 6) / 6),
    "sigmoid": ("sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
    "silu": ("silu", {}, lambda x: x / (1 + np.exp(-x))),
    "gelu": ("gelu", {"approximate": "none"}, lambda x: x / 2 * np.vectorize(math.erfc)(-x / math.sqrt(2))),
    "gelu_tanh": (
        "gelu",
        {"approximate": "tanh"},
        lambda x: x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
}


@dataclass
class Graph:
    """A network under construction: what the file will hold, and beside it the oracle's result of every value.

    ``rounded`` is done to the weights of convolutions that are drawn.
    """

    x: np.ndarray
    seed: int = 0
    rounded: Callable[[np.ndarray], np.ndarray] = lambda weight: weight
    written: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        shape = [size(0), self.x.shape[1], size(2), size(3)]
        self.written.append({"name": "x", "op": "input", "arguments": {"index": 0}, "shape": shape, "dtype": "float32"})
        self.values["x"] = self.x.astype(np.float64)

    def value(self, op: str, value: np.ndarray, scope: str = "", /, **arguments: Any) -> str:
        name = f"v{len(self.written)}"
        self.written.append(
            {"name": name, "op": op, "arguments": arguments, "shape": list(value.shape), "dtype": "float32"}
        )
        if scope:
            self.written[-1]["scope"] = scope
        self.values[name] = value
        return name

    def call(self, op: str, at: str, result: np.ndarray, scope: str = "", /, **arguments: Any) -> str:
        """An operator of the value ``at``, and what it is."""
        return self.value(op, result, scope, x={"value": at}, **arguments)

    def layer(self, op: str, at: str, value: np.ndarray, tensors: dict[str, np.ndarray], **arguments: Any) -> str:
        """An operator with tensors of its own."""
        path = f"layers.{len(self.tensors)}"
        given: dict[str, Any] = {}
        for key, tensor in tensors.items():
            self.tensors[f"{path}.{key}"] = tensor.astype(np.float32)
            given[key] = {"value": self.value("state", tensor, path=f"{path}.{key}")}
        return self.call(op, at, value, path, **given, **arguments)

    def conv(
        self,
        at: str,
        out_channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> str:
        x = self.values[at]
        padding = tuple(dilation * (size // 2) for size in kernel) if padding is None else padding
        fan_in = x.shape[1] // groups * kernel[0] * kernel[1]
        tensors = {"weight": self.random.standard_normal((out_channels, x.shape[1] // groups, *kernel)) / fan_in**0.5}
        if bias:
            tensors["bias"] = self.random.standard_normal(out_channels) * 0.1
        tensors = {key: tensor.astype(np.float32) for key, tensor in tensors.items()}
        tensors["weight"] = self.rounded(tensors["weight"])
        value = convolve(x, tensors["weight"], tensors.get("bias"), stride, padding, groups, dilation)
        rest: dict[str, Any] = {} if bias else {"bias": None}
        return self.layer(
            "conv", at, value, tensors, **rest, stride=[stride, stride], padding=list(padding),
            dilation=[dilation, dilation], groups=groups, transposed=False, output_padding=[0, 0],
        )  # fmt: skip

    def activation(self, at: str, kind: str) -> str:
        op, arguments, function = ACTIVATIONS[kind]
        return self.call(op, at, function(self.values[at]), **arguments)

    def flatten(self, at: str) -> str:
        """To [images, values]; height and width are the input's, or 1."""
        n, c, h, w = self.values[at].shape
        count = c if h == w == 1 else {"size": ["*", c, size(2), size(3)]}
        return self.call("view", at, self.values[at].reshape(n, -1), size=[{"size": size(0)}, count])

    def linear(self, at: str, out_features: int) -> str:
        x = self.values[at]
        weight = (self.random.standard_normal((out_features, x.shape[1])) / x.shape[1] ** 0.5).astype(np.float32)
        bias = self.random.standard_normal(out_features).astype(np.float32)
        tensors = {"weight": weight, "bias": bias}
        return self.layer("linear", at, x @ weight.T.astype(np.float64) + bias, tensors)

    def mean(self, at: str, keepdim: bool = True) -> str:
        return self.call("mean", at, self.values[at].mean((2, 3), keepdims=keepdim), dims=[2, 3], keepdim=keepdim)

    def max_pool(self, at: str, value: np.ndarray, kernel: int, stride: int, padding: int) -> str:
        window = {"kernel": [kernel] * 2, "stride": [stride] * 2, "padding": [padding] * 2, "dilation": [1, 1]}
        return self.call("max_pool", at, value, **window, ceil_mode=False)

    def head(self, at: str, classes: int = 10) -> str:
        """Global average pool, flatten, linear."""
        return self.linear(self.flatten(self.mean(at)), classes)

    def save(self, path: Path, output: str, **header: Any) -> np.ndarray:
        """Write the file; returns the oracle's result."""
        graph = {
            "inputs": ["x"],
            "values": self.written,
            "outputs": [output],
            "updates": {},
            "checks": self.checks,
            "sizes": [[0, axis, samples] for axis, samples in enumerate(self.x.shape)],
            "state": dict.fromkeys(self.tensors, "parameter"),
            "arguments": [{"value": "x"}],
            "output": {"value": output},
            "parameter_names": ["x"],
        }
        content = {"format": "repfold-model", "version": 2, "form": "folded", "graph": graph} | header
        save_file(self.tensors or {"nothing": np.zeros(1, np.float32)}, path, {"repfold": json.dumps(content)})
        return self.values[output].reshape(len(self.x), -1)


def size(axis: int) -> list[Any]:
    """The samples along an axis of the input."""
    return ["size", 0, axis]


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: int,
    padding: tuple[int, int],
    groups: int,
    dilation: int,
) -> np.ndarray:
    """Cross-correlation in float64: windows of the padded image times the kernel, group by group."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    reach = tuple(dilation * (size - 1) + 1 for size in weight.shape[2:])
    windows = sliding_window_view(padded, reach, axis=(2, 3))[:, :, ::stride, ::stride, ::dilation, ::dilation]
    n, channels = windows.shape[:2]
    windows = windows.reshape(n, groups, channels // groups, *windows.shape[2:])
    kernels = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    out = np.einsum("ngihwyx,goiyx->ngohw", windows, kernels, optimize=True)
    out = out.reshape(n, -1, *out.shape[3:])
    return out if bias is None else out + bias.astype(np.float64)[:, None, None]


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to the largest value."""
    return float(np.abs(got.reshape(expected.shape) - expected).max() / np.abs(expected).max())


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bf16(x: np.ndarray) -> np.ndarray:
    """The float32 values rounded to those that bfloat16 has."""
    return ((x.view(np.uint32) + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def plain_network(path: Path, x: np.ndarray, widths: tuple[int, ...], depth: int = 2, seed: int = 0) -> np.ndarray:
    """A folded RepVGG in small: stages of 3x3 convolutions and ReLUs, the first of each of stride 2."""
    graph = Graph(x, seed)
    at = "x"
    for width in widths:
        for layer in range(depth):
            at = graph.activation(graph.conv(at, width, stride=2 if layer == 0 else 1), "relu")
    return graph.save(path, graph.head(at))
