"""The door from PyTorch: how long it follows free sizes, and what it does then."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from repfold.fold import fold
from repfold.graph import record as recording
from repfold.graph import recorder
from repfold.graph.record import record


def network(layers: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *(nn.ReLU() for _ in range(layers - 2))).eval()


def test_what_takes_too_long_with_free_sizes_is_followed_with_the_examples():
    x = torch.randn(2, 3, 9, 8)
    free, bound = record(network(4), (x,)), record(network(4), (x,), seconds=0.0)
    assert free.remarks == () and len(free.graph.checks) == 1  # the channels
    (remark,) = bound.remarks
    assert remark.startswith("all sizes are fixed to the example's") and "took more than 0 s" in remark
    assert bound.graph.outputs[0].shape == (2, 4, 7, 6)


@pytest.mark.parametrize(("layers", "is_free"), [(20, False), (100, False), (160, True)])
def test_a_hundred_layers_have_ten_seconds_and_more_have_more(layers, is_free, monkeypatch):
    monkeypatch.setattr(recording, "time", SimpleNamespace(thread_time=lambda: 0.0))
    monkeypatch.setattr(recorder, "time", SimpleNamespace(thread_time=lambda: 15.0))
    _, certificate = fold(network(layers), torch.randn(2, 3, 9, 8))
    said = "took more than 10 s" in str(certificate)
    assert said is not is_free and "BatchNorm" not in str(certificate.left)
