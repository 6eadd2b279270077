"""Random networks of constant-scale branches, the branch network being its own oracle under torch.optim."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable

import torch
from torch import nn


class Scaled(nn.Module):
    """A layer times a constant per-channel scale, of either sign, sometimes tiny."""

    def __init__(self, layer: nn.Module, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.layer = layer
        scale = torch.tensor([draw.choice([-1, 1]) * draw.choice([1e-4, 0.3, 1.0, 1.7]) for _ in range(channels)])
        self.register_buffer("scale", scale.reshape(-1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.scale


class Identity(nn.Module):
    """u ⊙ x with u trained, or constant."""

    def __init__(self, channels: int, trained: bool) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(channels, 1, 1), requires_grad=trained)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.u * x


def frozen(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    return layer


def _diagonal_branches(c: int, o: int, stride: int, groups: int, draw: random.Random) -> list[nn.Module]:
    conv = lambda kernel, padding: nn.Conv2d(c, o, kernel, stride, padding, groups=groups, bias=draw.random() < 0.3)  # noqa: E731
    branches: list[nn.Module] = [conv(3, 1), conv(1, 0), conv((1, 3), (0, 1)), conv((3, 1), (1, 0)), conv(3, 1)]
    scaled: list[nn.Module] = [Scaled(layer, o, draw) for layer in draw.sample(branches, draw.randint(1, 3))]
    if c == o and stride == 1:
        scaled.append(Identity(c, trained=draw.random() < 0.7))
    return scaled


def _operator_branches(c: int, o: int, stride: int, groups: int, draw: random.Random) -> list[nn.Module]:
    pool = nn.Sequential(nn.Conv2d(c, o, 1, groups=groups, bias=False), nn.AvgPool2d(3, stride, 1))
    inner = nn.Sequential(frozen(nn.Conv2d(c, c, 1, bias=False)), nn.Conv2d(c, o, 3, stride, 1, bias=False))
    outer = nn.Sequential(nn.Conv2d(c, o, 3, stride, 1), frozen(nn.Conv2d(o, o, 1)))
    return [Scaled(layer, o, draw) for layer in draw.sample([pool, inner, outer], draw.randint(1, 3))]


class Block(nn.Module):
    def __init__(self, branches: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return torch.relu(self.norm(total))


def random_network(seed: int, operators: bool) -> nn.Module:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    channels = [4, draw.choice([4, 6]), draw.choice([4, 8])]
    blocks = []
    for c, o in itertools.pairwise(channels):
        groups = draw.choice([1, 2]) if c % 2 == 0 and o % 2 == 0 else 1
        stride = draw.choice([1, 2])
        branches = _diagonal_branches(c, o, stride, groups, draw)
        branches += _operator_branches(c, o, stride, groups, draw) if operators else []
        blocks.append(Block(branches, o))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 3)).double()


def batches(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(4, 4, 7, 6, generator=generator, dtype=torch.float64),
            torch.randint(0, 3, (4,), generator=generator),
        )
        for _ in range(steps)
    ]


def train(network: nn.Module, make: Callable[[nn.Module], torch.optim.Optimizer], steps: int) -> list[float]:
    network.train()
    optimizer = make(network)
    losses = []
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def twin(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network)
