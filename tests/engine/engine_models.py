"""Folded model files written without PyTorch, and an independent oracle: each layer in numpy, float64, NCHW."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import save_file

ACTIVATIONS = {
    "ReLU": lambda x: np.where(x < 0, 0, x),
    "ReLU6": lambda x: np.clip(x, 0, 6),
    "LeakyReLU": lambda x: np.where(x > 0, x, 0.1 * x),
    "Hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "Hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "SiLU": lambda x: x / (1 + np.exp(-x)),
}


@dataclass
class Graph:
    """A network under construction: what the file will hold, and beside it the oracle's value of every node."""

    x: np.ndarray
    seed: int = 0
    nodes: list[dict[str, Any]] = field(default_factory=list)
    modules: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.nodes.append({"name": "x", "op": "placeholder", "target": "x", "args": [], "kwargs": {}})
        self.values["x"] = self.x.astype(np.float64)

    def call(self, op: str, target: str, args: list[Any], value: np.ndarray, **kwargs: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append({"name": name, "op": op, "target": target, "args": args, "kwargs": kwargs})
        self.values[name] = value
        return name

    def layer(self, kind: str, at: str, value: np.ndarray, tensors: dict[str, np.ndarray], **arguments: Any) -> str:
        path = f"layers.{len(self.modules)}"
        self.modules[path] = {"class": kind, "arguments": arguments}
        self.tensors |= {f"{path}.{key}": tensor.astype(np.float32) for key, tensor in tensors.items()}
        return self.call("call_module", path, [{"node": at}], value)

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
        value = convolve(x, tensors["weight"], tensors.get("bias"), stride, padding, groups, dilation)
        return self.layer(
            "Conv2d", at, value, tensors, in_channels=x.shape[1], out_channels=out_channels,
            kernel_size={"tuple": list(kernel)}, stride={"tuple": [stride, stride]}, padding={"tuple": list(padding)},
            dilation={"tuple": [dilation, dilation]}, groups=groups, bias=bias, padding_mode="zeros",
        )  # fmt: skip

    def activation(self, at: str, kind: str) -> str:
        arguments = {"negative_slope": 0.1} if kind == "LeakyReLU" else {}
        return self.layer(kind, at, ACTIVATIONS[kind](self.values[at]), {}, **arguments)

    def linear(self, at: str, out_features: int) -> str:
        x = self.values[at]
        weight = (self.random.standard_normal((out_features, x.shape[1])) / x.shape[1] ** 0.5).astype(np.float32)
        bias = self.random.standard_normal(out_features).astype(np.float32)
        tensors = {"weight": weight, "bias": bias}
        return self.layer(
            "Linear", at, x @ weight.T.astype(np.float64) + bias, tensors, in_features=x.shape[1],
            out_features=out_features, bias=True,
        )  # fmt: skip

    def head(self, at: str, classes: int = 10) -> str:
        """Global average pool, flatten, linear."""
        pooled = self.layer("AdaptiveAvgPool2d", at, self.values[at].mean((2, 3), keepdims=True), {}, output_size=1)
        flat = self.call("call_function", "torch.flatten", [{"node": pooled}, 1], self.values[pooled][:, :, 0, 0])
        return self.linear(flat, classes)

    def save(self, path: Path, output: str, **header: Any) -> np.ndarray:
        """Write the file; returns the oracle's result."""
        end = {"name": "output", "op": "output", "target": "output", "args": [{"node": output}], "kwargs": {}}
        graph = {"nodes": [*self.nodes, end], "modules": self.modules, "attributes": {}}
        content = {"format": "repfold-model", "version": 1, "form": "folded", "graph": graph} | header
        save_file(self.tensors or {"nothing": np.zeros(1, np.float32)}, path, {"repfold": json.dumps(content)})
        return self.values[output].reshape(len(self.x), -1)


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
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plain_network(path: Path, x: np.ndarray, widths: tuple[int, ...], depth: int = 2, seed: int = 0) -> np.ndarray:
    """A folded RepVGG in small: stages of 3x3 convolutions and ReLUs, the first of each of stride 2."""
    graph = Graph(x, seed)
    at = "x"
    for width in widths:
        for layer in range(depth):
            at = graph.activation(graph.conv(at, width, stride=2 if layer == 0 else 1), "ReLU")
    return graph.save(path, graph.head(at))
