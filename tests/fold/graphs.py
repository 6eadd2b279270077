"""Random networks of linear and non-linear pieces with random geometry, for the property test of fold."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn import functional as F


class RandomNetwork(nn.Module):
    """A program of random steps over a pool of values, drawn once from a seed and then fixed.

    Every step is a function of the network and the pool that returns a new value; a step that the drawn shapes do not
    allow is not taken.
    """

    def __init__(self, seed: int, dimensions: int, steps: int = 9) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        self.dimensions = dimensions
        self.program: list[tuple] = []
        torch.manual_seed(seed)
        self.channels = self.draw.choice([2, 4, 6])
        pool = [
            torch.randn(2, self.channels, *(self.draw.randint(7, 10) for _ in range(dimensions)), dtype=torch.float64)
        ]
        self.example = pool[0]
        for _ in range(steps):
            self._extend(pool)
        self.output = self._pick_output(pool)
        self.eval()

    def _extend(self, pool: list[torch.Tensor]) -> None:
        name = self.draw.choice(list(STEPS))
        operands = [self._recent(pool) for _ in range(2)]
        layer = STEPS[name](self, *(pool[i] for i in operands))
        if layer is None:
            return
        if isinstance(layer, nn.Module):
            randomise(layer.double())
            self.add_module(f"layer{len(self.program)}", layer)
        try:
            with torch.no_grad():
                value = apply(layer, name, *(pool[i].clone() for i in operands))
        except RuntimeError:
            return
        if value.dim() == pool[0].dim() and 0 < value.numel() < 200_000 and value.abs().max() < 1e6:
            self.program.append(
                (name, layer if not isinstance(layer, nn.Module) else f"layer{len(self.program)}", operands)
            )
            pool.append(value)

    def _recent(self, pool: list[torch.Tensor]) -> int:
        return self.draw.choice(range(len(pool))[-3:] if self.draw.random() < 0.8 else range(len(pool)))

    def _pick_output(self, pool: list[torch.Tensor]) -> list[int]:
        return sorted({len(pool) - 1, self._recent(pool)})

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        pool = [x]
        for name, layer, operands in self.program:
            layer = getattr(self, layer) if isinstance(layer, str) else layer
            pool.append(apply(layer, name, *(pool[i] for i in operands)))
        return [pool[i] for i in self.output]


def apply(layer, name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if name in TWO_OPERANDS:
        return layer(x, y)
    return layer(x)


def randomise(layer: nn.Module) -> None:
    for buffer_name, buffer in layer.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_()
        if buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)


def _conv(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor) -> nn.Module:
    draw, inputs = net.draw, x.shape[1]
    outputs = draw.choice([inputs, inputs, 2, 4, 6])
    groups = draw.choice([g for g in (1, 2, inputs) if inputs % g == 0 and outputs % g == 0])
    kernel = tuple(draw.choice([1, 1, 2, 3, 3, 5]) for _ in range(net.dimensions))
    dilation = draw.choice([1, 1, 2])
    same = draw.random() < 0.6
    padding = tuple(dilation * (k - 1) // 2 for k in kernel) if same else draw.choice([0, 1, 2])
    mode = draw.choice(["zeros"] * 4 + ["reflect", "replicate", "circular"])
    stride = draw.choice([1, 1, 1, 2])
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[net.dimensions]
    if draw.random() < 0.1:
        padding, stride = "same", 1
    return kind(inputs, outputs, kernel, stride, padding, dilation, groups, draw.random() < 0.4, mode)


def _twin(net: RandomNetwork, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """A 1x1 convolution that a 3x3 one of the same source is likely to be added to."""
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[net.dimensions]
    return kind(x.shape[1], y.shape[1], 1, bias=False)


def _transposed(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor) -> nn.Module:
    kind = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[net.dimensions]
    stride, kernel = net.draw.choice([1, 2]), net.draw.choice([1, 2, 3])
    return kind(x.shape[1], net.draw.choice([2, 4]), kernel, stride, net.draw.choice([0, (kernel - 1) // 2]))


def _norm(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor) -> nn.Module:
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[net.dimensions]
    return kind(x.shape[1], affine=net.draw.random() < 0.7)


def _pool(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor) -> nn.Module:
    draw = net.draw
    kind = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[net.dimensions]
    return kind(3, draw.choice([1, 2]), draw.choice([0, 1]), draw.random() < 0.2, draw.random() < 0.7)


class Scale(nn.Module):
    def __init__(self, shape: tuple[int, ...], operation) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(shape))
        self.operation = operation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.operation(x, self.factor)


def _scale(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor) -> nn.Module:
    spatial = (1,) * net.dimensions
    shape = net.draw.choice([(), (1, x.shape[1], *spatial), (x.shape[1], *spatial), (1, 1, *spatial)])
    return Scale(shape, net.draw.choice([torch.mul, torch.add, torch.sub, lambda x, f: f - x]))


def _slice(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor):
    step, start, stop = net.draw.choice([1, 2]), net.draw.choice([0, 1]), net.draw.choice([None, -1])
    return lambda v: v[(slice(None), slice(None), *(slice(start, stop, step) for _ in range(net.dimensions)))]


def _channels(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor):
    half = x.shape[1] // 2
    if not half:
        return None
    picks = [lambda v: v[:, :half], lambda v: v[:, half:], lambda v: v.chunk(2, 1)[1]]
    return net.draw.choice(picks if x.shape[1] % 2 else [*picks, shuffle(x.dim())])


def shuffle(rank: int):
    """Channel shuffle in two groups, as ShuffleNet writes it."""

    def call(v: torch.Tensor) -> torch.Tensor:
        sizes = [v.shape[axis] for axis in range(2, rank)]
        return v.view(v.shape[0], 2, -1, *sizes).transpose(1, 2).reshape(v.shape[0], -1, *sizes)

    return call


def _pad(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor):
    pads = [net.draw.choice([0, 1, 1, -1]) for _ in range(2 * net.dimensions)]
    if net.draw.random() < 0.5:
        return lambda v: F.pad(v, pads)
    pads = [max(p, 0) for p in pads]
    mode = net.draw.choice(["reflect", "replicate", "circular"])
    return lambda v: F.pad(v, pads, mode=mode)


def _in_place(net: RandomNetwork, x: torch.Tensor, _: torch.Tensor):
    operation = net.draw.choice(["relu_", "scale_", "view_"])
    if operation == "relu_":
        return lambda v: v.relu_()
    if operation == "scale_":
        return lambda v: v.mul_(0.5)
    return lambda v: v.view(v.shape).mul_(2.0)


STEPS = {
    "conv": _conv,
    "conv again": _conv,
    "twin": _twin,
    "transposed": _transposed,
    "norm": _norm,
    "norm again": _norm,
    "pool": _pool,
    "scale": _scale,
    "relu": lambda net, x, y: nn.ReLU(inplace=net.draw.random() < 0.5),
    "sum": lambda net, x, y: (lambda a, b: a + b) if x.shape == y.shape else None,
    "sum again": lambda net, x, y: (lambda a, b: torch.sub(a, b, alpha=2)) if x.shape == y.shape else None,
    "cat": lambda net, x, y: (lambda a, b: torch.cat([a, b], 1)) if x.shape[2:] == y.shape[2:] else None,
    "slice": _slice,
    "channels": _channels,
    "pad": _pad,
    "in place": _in_place,
    "dropout": lambda net, x, y: nn.Dropout(0.5).eval(),
}
TWO_OPERANDS = frozenset({"sum", "sum again", "cat"})
