"""Buffers that a forward computes with: read exactly when folding, or decided by when tracing."""

import pytest
import torch
from torch import nn

from repfold.blocks import DBB
from repfold.fold import fold


@pytest.mark.parametrize("seed", range(4))
def test_a_border_computed_from_statistics_is_exact_in_float32(seed):
    torch.manual_seed(seed)
    block = DBB(6, 6).train()
    for _ in range(3):
        block(3 + 2 * torch.randn(8, 6, 9, 9))
    plain, certificate = fold(block.eval(), torch.randn(2, 6, 9, 9))
    assert len(certificate.regions) == 1 and sum(p.numel() for p in plain.parameters()) == 6 * 6 * 9 + 6
    assert certificate.regions[0].error_float64 < 1e-12


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("ready", torch.tensor(True))

    def forward(self, x):
        return self.norm(self.conv(x)) if self.ready else x


def test_a_decision_by_a_buffer_is_taken_while_tracing():
    plain, certificate = fold(Decides().eval(), torch.randn(2, 3, 8, 8))
    assert len(certificate.regions) == 1 and not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
