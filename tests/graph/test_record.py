"""The door from PyTorch: how long it follows free sizes, and what it does then."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from tests.fold.users_patterns import Swish
from torch import nn

from repfold.fold import fold
from repfold.graph import record as recording
from repfold.graph import recorder
from repfold.graph.interpret import execute
from repfold.graph.record import NotFollowed, record


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


class Floor(torch.autograd.Function):
    """Straight through; written in the newer way."""

    @staticmethod
    def forward(x):
        return x.floor()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx, gradient):
        return gradient


swish = Swish.apply  # as PyTorch's tutorials have it


class OwnGradients(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.swish = nn.Conv2d(3, 4, 3), Swish.apply

    def forward(self, x):
        return Floor.apply((swish(self.conv(x)) + self.swish(x).mean()) * 8)


def test_functions_with_a_gradient_of_their_own():
    network, x = OwnGradients().eval(), torch.randn(2, 3, 8, 8)
    recorded = record(network, (x,))
    ops = [value.op for value in recorded.graph.values]
    assert ops.count("sigmoid") == 2 and ops[-1] == "aten.floor.default"
    assert all(f"{name} has" in remark for name, remark in zip(["Swish", "Floor"], recorded.remarks, strict=True))
    assert torch.equal(execute(recorded.graph, (x,), recorded.state)[0], network(x))
    network(x).sum().backward()  # as before: straight through
    assert swish == Swish.apply == network.swish
    assert network.conv.weight.grad.abs().sum() > 0


def test_a_gradient_of_its_own_is_not_lost_in_training():
    with pytest.raises(NotFollowed, match="Swish has a gradient of its own"):
        record(OwnGradients().train(), (torch.randn(2, 3, 8, 8),))


def test_other_threads_keep_their_gradients():
    found = []

    def elsewhere() -> None:
        x = torch.ones(3, requires_grad=True)
        Floor.apply(x * 0.5).sum().backward()
        found.append(x.grad)

    class Starting(OwnGradients):
        def forward(self, x):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            return super().forward(x)

    record(Starting().eval(), (torch.randn(1, 3, 8, 8),))
    assert found and all(gradient.tolist() == [0.5] * 3 for gradient in found)
