"""Changing the norm of a network by name."""

import pytest
import torch
from torch import nn

from repfold import norms
from repfold.errors import RepFoldError


class Twice(nn.Module):
    """One norm that stands in two places, one nested, and one without scales."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.BatchNorm2d(8, eps=1e-3)
        self.again = self.shared
        self.nested = nn.Sequential(nn.Conv2d(8, 16, 1), nn.Sequential(nn.BatchNorm2d(16, affine=False)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.nested(self.again(self.shared(x)))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("batch", nn.BatchNorm2d),
        ("group:4", norms.GroupNorm),
        ("group:groups=8", norms.GroupNorm),
        ("layer", norms.GroupNorm),
        ("instance", nn.InstanceNorm2d),
        ("general:1/8/1/1", norms.GeneralNorm2d),
        ("general:1/4/2/2,per_sample=true", norms.GeneralNorm2d),
    ],
)
def test_every_batch_norm_becomes_the_norm_told_in_a_copy(text: str, kind: type[nn.Module]) -> None:
    network = Twice().double().eval()
    network.shared.weight.data.uniform_()
    changed = norms.replace(network, text)
    assert isinstance(changed, Twice) and isinstance(network.shared, nn.BatchNorm2d)
    assert type(changed.shared) is kind and changed.again is changed.shared and changed.shared.eps == 1e-3
    inner = changed.nested[1][0]
    assert type(inner) is kind and inner.weight is None and not inner.training
    assert torch.equal(changed.shared.weight, network.shared.weight)
    assert changed(torch.randn(2, 8, 4, 4, dtype=torch.float64)).dtype == torch.float64


def test_a_network_that_is_one_batch_norm() -> None:
    assert isinstance(norms.replace(nn.BatchNorm2d(4), "layer"), norms.GroupNorm)


def test_group_norm_computes_what_it_says() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    x = torch.randn(2, 3, 6, 6)
    changed = norms.replace(network, "group:2")
    expected = nn.functional.group_norm(network[0](x), 2)
    assert torch.allclose(changed(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group:3", r"layer 'shared': 3 groups do not divide 8 channels"),
        ("group:16", "divisor of 8"),
        ("group:0", "at least 1"),
        ("gruop:4", "Did you mean 'group'"),
        ("group:grups=4", "Did you mean 'groups'"),
        ("group:x", "cannot be read as int"),
        ("general:1/3/1/1", "layer 'shared'"),
        ("general:1/4", "four numbers"),
        ("general:per_sample=maybe", "true or false"),
    ],
)
def test_mistakes_are_told(text: str, message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        norms.replace(Twice(), text)


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(RepFoldError, match="no BatchNorm2d"):
        norms.replace(nn.Sequential(nn.Conv2d(3, 8, 3)), "group:4")
