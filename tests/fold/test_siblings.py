"""A convolution and its norm, joined where the forward decides by values and cannot be followed."""

import torch
from torch import nn

from repfold.fold import fold


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
