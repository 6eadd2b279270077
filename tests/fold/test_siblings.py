"""A convolution and its norm, joined where the forward decides by values and cannot be followed."""

import dataclasses
import importlib

import pytest
import torch
from torch import nn

from repfold.fold import FoldError, fold


class Aliased(nn.Module):
    """Calls its convolution by the second of its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.called = self.conv

    def forward(self, x_NCHW):
        return self.norm(self.called(x_NCHW)) if x_NCHW.sum() == x_NCHW.sum() else x_NCHW


def test_a_convolution_of_two_names_is_joined_under_both():
    torch.manual_seed(0)
    network = Aliased().eval()
    network.norm.running_mean.normal_()
    x_NCHW = torch.randn(2, 3, 8, 8)
    plain, certificate = fold(network, x_NCHW)
    assert [region.modules for region in certificate.regions] == [("conv", "norm")]
    assert plain.called is plain.conv
    torch.testing.assert_close(plain(x_NCHW), network(x_NCHW), rtol=1e-4, atol=1e-4)


class GivesBoth(nn.Module):
    """Returns what the convolution gives and labels of what the norm gives, so the two cannot be joined."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.by = by

    def forward(self, x_NCHW):
        if self.by == "values":
            assert x_NCHW.sum() == x_NCHW.sum()
        elif x_NCHW.shape[-1] % 2:
            x_NCHW = x_NCHW + 0.0  # which labels cannot show
        y_NCHW = self.conv(x_NCHW)
        return y_NCHW, self.norm(y_NCHW) > 0.1


def _drawn(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    network.norm.running_mean.normal_()
    network.norm.weight.data.normal_()
    return network.eval()


@pytest.mark.parametrize("by", ["values", "size"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_network_returns_is_read(by, dtype):
    network, x_NCHW = _drawn(GivesBoth(by)).to(dtype), torch.randn(2, 3, 8, 8, dtype=dtype)
    plain, certificate = fold(network, x_NCHW)
    assert not certificate.regions
    for found, expected in zip(plain(x_NCHW), network(x_NCHW), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wrong_join_is_not_excused_as_rounding_by_a_twin_that_was_folded_otherwise(dtype, monkeypatch):
    watch = importlib.import_module("repfold.fold.siblings")._Watch
    monkeypatch.setattr(watch, "returned", lambda self, output: None)
    network, x_NCHW = _drawn(GivesBoth("size")).to(dtype), torch.randn(2, 3, 8, 8, dtype=dtype)
    plain, certificate = fold(network, x_NCHW)
    assert certificate.error < 1e-6
    for found, expected in zip(plain(x_NCHW), network(x_NCHW), strict=True):
        assert torch.equal(found, expected)
    with pytest.raises(FoldError):
        fold(_drawn(GivesBoth("values")).to(dtype), x_NCHW)


@dataclasses.dataclass
class Both:
    conv: torch.Tensor
    norm: torch.Tensor


class GivesDataclass(GivesBoth):
    """The same in a container of the user's own."""

    def forward(self, x_NCHW):
        return Both(*super().forward(x_NCHW))


def test_what_is_returned_in_a_container_of_the_users_is_read():
    network, x_NCHW = _drawn(GivesDataclass("values")), torch.randn(2, 3, 8, 8)
    plain, certificate = fold(network, x_NCHW)
    assert not certificate.regions
    assert torch.equal(plain(x_NCHW).conv, network(x_NCHW).conv)
