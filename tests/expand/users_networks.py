"""Small networks as users write them, none of which knows of blocks or folding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def settled(network: nn.Module, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """The network in eval mode with norms as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return network.to(dtype).eval()


class Residual(nn.Module):
    """A basic ResNet block, with its activations as functions and its addition in place."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu(y)


class ResNet(nn.Module):
    """Large stem, two stages; eight convolutions, each with its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Residual(4, 4, 1), Residual(4, 6, 2))
        self.layer2 = Residual(6, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class LeNet(nn.Module):
    """No norms, no padding, biases; a patch convolution with an even kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 5), nn.Tanh(), nn.Conv2d(6, 6, 2, 2), nn.Tanh(), nn.Conv2d(6, 8, (1, 3), padding=(0, 1))
        )
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).amax((2, 3)))


class Undecided(nn.Module):
    """Its forward looks at values, so it cannot be traced as a whole; its halves can."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Residual(3, 4, 1)
        self.second = Residual(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x) if x.sum() > 0 else -self.second(-x)


FOREIGN = {"resnet": ResNet, "lenet": LeNet, "undecided": Undecided}
