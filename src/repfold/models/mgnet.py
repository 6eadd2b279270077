"""MgNet (He and Xu 2019): a convolutional network read as a multigrid method that solves A·u = f level by level."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from repfold.errors import RepFoldError, nearest
from repfold.models.presets import strides_of
from repfold.models.resnet import initialise_for_relu

# Whether a level has one B for all its iterations (B^l) or one for each (B^{l,i}).
Sharing = Literal["level", "iteration"]

_MOST_ITERATIONS = 1000  # a model file may ask for any number, and each is three layers


@dataclass(frozen=True)
class MgNetTable:
    """Channels, the same on all levels; smoothing iterations of each level, finest first; how B is shared.

    Raises: RepFoldError for numbers below 1 and an unknown sharing.
    """

    channels: int = 64
    iterations: tuple[int, ...] = (2, 2, 2, 2)
    sharing: Sharing = "level"

    def __post_init__(self) -> None:
        if self.sharing not in get_args(Sharing):
            raise RepFoldError(f"Unknown sharing '{self.sharing}'. {nearest(str(self.sharing), get_args(Sharing))}")
        if not self.iterations or min(self.channels, *self.iterations) < 1:
            raise RepFoldError(
                f"MgNet of {self.channels} channels and iterations {list(self.iterations)}: it needs at least one "
                "channel, one level, and one iteration on each level."
            )
        if sum(self.iterations) > _MOST_ITERATIONS:
            raise RepFoldError(
                f"MgNet of {sum(self.iterations):,} iterations: at most {_MOST_ITERATIONS} on all levels."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return (self.channels,) * len(self.iterations)

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> MgNet:
        """Fresh weights; ``options``: channels, iterations (one number per level), sharing ("level" or "iteration")."""
        return MgNet(self, num_classes=num_classes, preset=preset, in_channels=in_channels, **options)


class MgNet(nn.Module):
    """Stem, levels of smoothing with restrictions between them, average pool, head: [N, C, H, W] -> [N, num_classes].

    f is the data, u the approximate solution, on the finest level f = act(norm(conv(x))) and u = 0. The images keep
    their size on the finest level, whatever the preset, and are halved by each restriction.
    """

    def __init__(
        self,
        table: MgNetTable,
        *,
        num_classes: int = 1000,
        preset: str = "imagenet",
        in_channels: int = 3,
        channels: int | None = None,
        iterations: Sequence[int] | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__()
        strides_of(preset)  # an unknown one is an error, though all are alike here
        own = MgNetTable(channels or table.channels, tuple(iterations or table.iterations), sharing or table.sharing)
        self.table, self.num_classes, self.preset, self.in_channels = table, num_classes, preset, in_channels
        self.options = {
            key: value for key, value in dataclasses.asdict(own).items() if value != dataclasses.asdict(table)[key]
        }
        self.stem = _conv(in_channels, own.channels)
        self.stem_norm = nn.BatchNorm2d(own.channels)
        self.levels = nn.ModuleList(Level(own.channels, count, own.sharing) for count in own.iterations)
        self.restrictions = nn.ModuleList(Restriction(own.channels) for _ in own.iterations[1:])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(own.channels, num_classes)
        initialise_for_relu(self)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> logits [N, num_classes]."""
        f_NCHW = functional.relu(self.stem_norm(self.stem(x_NCHW)))
        u_NCHW = self.levels[0](None, f_NCHW)
        for level, (restriction, coarser) in enumerate(zip(self.restrictions, self.levels[1:], strict=True)):
            u_NCHW, f_NCHW = restriction(u_NCHW, f_NCHW, self.levels[level].operator, coarser.operator)
            u_NCHW = coarser(u_NCHW, f_NCHW)
        logits_NK: torch.Tensor = self.head(torch.flatten(self.pool(u_NCHW), 1))
        return logits_NK


class Level(nn.Module):
    """Smoothing on one grid: u <- u + act(norm(B * act(norm(f - A * u)))), once an iteration; norms are not shared."""

    def __init__(self, channels: int, iterations: int, sharing: Sharing) -> None:
        super().__init__()
        self.operator = _conv(channels, channels)
        smoothers = 1 if sharing == "level" else iterations
        self.smoothers = nn.ModuleList(_conv(channels, channels) for _ in range(smoothers))
        self.residual_norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(iterations))
        self.correction_norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(iterations))

    def forward(self, u_NCHW: torch.Tensor | None, f_NCHW: torch.Tensor) -> torch.Tensor:
        """Return u after all iterations; ``u_NCHW`` None is u = 0, of which nothing is computed."""
        for iteration, (inner, outer) in enumerate(zip(self.residual_norms, self.correction_norms, strict=True)):
            smoother = self.smoothers[min(iteration, len(self.smoothers) - 1)]
            residual_NCHW = f_NCHW if u_NCHW is None else f_NCHW - self.operator(u_NCHW)
            correction_NCHW = functional.relu(outer(smoother(functional.relu(inner(residual_NCHW)))))
            u_NCHW = correction_NCHW if u_NCHW is None else u_NCHW + correction_NCHW
        assert u_NCHW is not None
        return u_NCHW


class Restriction(nn.Module):
    """To the coarser grid: u' = act(norm(Π * u)), f' = act(norm(R * (f - A * u))) + A' * u', with A' the coarser A."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.solution = _conv(channels, channels, stride=2)
        self.solution_norm = nn.BatchNorm2d(channels)
        self.residual = _conv(channels, channels, stride=2)
        self.residual_norm = nn.BatchNorm2d(channels)

    def forward(
        self, u_NCHW: torch.Tensor, f_NCHW: torch.Tensor, finer: nn.Module, coarser: nn.Module
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return u' and f' on the coarser grid; ``finer`` is A and ``coarser`` A'."""
        restricted_NCHW = functional.relu(self.residual_norm(self.residual(f_NCHW - finer(u_NCHW))))
        u_NCHW = functional.relu(self.solution_norm(self.solution(u_NCHW)))
        return u_NCHW, restricted_NCHW + coarser(u_NCHW)


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


TABLES: dict[str, MgNetTable] = {f"mgnet-{channels}": MgNetTable(channels) for channels in (64, 128, 256)}
