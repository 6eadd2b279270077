"""What expand cannot do it says: which convolution, why, and what to do. Nothing is half-expanded."""

from __future__ import annotations

import pytest
import torch
from tests.expand.users_networks import FOREIGN, settled
from torch import nn
from torch.nn.utils import parametrizations

import repfold
from repfold.errors import RepFoldError
from repfold.expand import ExpandWarning

X = torch.randn(2, 3, 12, 12)


class Reading(nn.Module):
    """Uses ``read(conv)`` in its forward, besides calling the convolution."""

    def __init__(self, read) -> None:
        super().__init__()
        self.conv, self.other, self.read = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), read

    def forward(self, x):
        return self.other(self.conv(x)) + self.read(self.conv)


def test_an_unknown_block_offers_the_nearest():
    with pytest.raises(RepFoldError, match=r"'repvg'.*'repvgg'"):
        repfold.expand(FOREIGN["resnet"](), "repvg")
    with pytest.raises(RepFoldError, match=r"'plain'.*Known: acb, csla, dbb"):
        repfold.expand(FOREIGN["resnet"](), "plain")


def test_a_network_without_convolutions():
    with pytest.raises(RepFoldError, match=r"Sequential has no nn\.Conv2d"):
        repfold.expand(nn.Sequential(nn.Linear(3, 3)), "acb")


def test_where_that_selects_nothing():
    with pytest.raises(
        RepFoldError, match=r"none of the 8 convolutions: no path matches 'layer1.0.conv3'.*'layer1.0.conv"
    ):
        repfold.expand(FOREIGN["resnet"](), "acb", where="layer1.0.conv3")
    with pytest.raises(RepFoldError, match="the predicate"):
        repfold.expand(FOREIGN["resnet"](), "acb", where=lambda path, conv: False)


def test_where_that_selects_only_what_cannot_be():
    with pytest.raises(
        RepFoldError, match=r"No convolution can be expanded by 'acb'. layer1.1.shortcut.0: its kernel is 1x1"
    ):
        repfold.expand(FOREIGN["resnet"](), "acb", where="*shortcut*")


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def tied() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    network[1].weight = network[0].weight
    return network


def hooked() -> nn.Module:
    conv = nn.Conv2d(3, 3, 3)
    conv.register_forward_hook(lambda module, given, output: output + 1)
    return conv


def broken() -> nn.Module:
    conv = nn.Conv2d(3, 3, 3)
    conv.weight.data[0] = float("nan")
    return conv


@pytest.mark.parametrize(
    ("make", "block", "reason"),
    [
        (tied, "acb", "shares its weight"),
        (hooked, "acb", "has hooks"),
        (broken, "acb", "not finite"),
        (broken, "expandnet", "not finite"),
        (lambda: parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), "acb", "parametrized"),
        (lambda: Scaled(3, 3, 3), "acb", "class Scaled computes something else"),
        (lambda: nn.LazyConv2d(3, 3), "acb", "no weight yet"),
        (lambda: nn.Conv2d(3, 3, 2, padding="same"), "acb", "one-sided"),
        (lambda: nn.Conv2d(3, 3, 3, dilation=2), "dbb", "DBB with dilation"),
        (lambda: repfold.expand(nn.Conv2d(3, 3, 3), "acb"), "acb", "branch of a ACB already"),
        (lambda: Reading(lambda conv: conv.weight.sum()), "acb", "reads its weight itself"),
    ],
)
def test_convolutions_that_stay(make, block, reason):
    eligible = nn.Conv2d(3, 3, 3)
    with pytest.raises(RepFoldError, match=f"No convolution can be.*{reason}|where selects"):
        repfold.expand(make(), block, where=lambda path, conv: not path.endswith("other"))
    with pytest.warns(ExpandWarning, match=reason):
        rich = repfold.expand(nn.Sequential(make(), eligible), block)
    assert not isinstance(rich[1], nn.Conv2d)


def test_a_forward_that_reads_what_is_gone_is_an_error():
    with pytest.raises(RepFoldError, match=r"no longer runs.*stride.*where="):
        repfold.expand(Reading(lambda conv: conv.stride[0]), "acb")
    rich = repfold.expand(Reading(lambda conv: conv.stride[0]), "acb", where="other")
    assert rich(X).shape == X.shape


class Undecided(nn.Module):
    """Looks at values, so that no trace shows what ``use`` does with its convolution."""

    def __init__(self, use) -> None:
        super().__init__()
        self.conv, self.use = nn.Conv2d(3, 3, 3, padding=1), use

    def forward(self, x):
        return self.use(self.conv, x) if x.sum() == x.sum() else x


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda conv, x: nn.functional.conv2d(x, conv.weight), "no longer runs.*weight"),
        (lambda conv, x: conv(x) if isinstance(conv, nn.Conv2d) else -conv(x), "gives other outputs"),
    ],
)
def test_a_use_that_no_trace_shows_is_found_on_the_example(use, message):
    assert repfold.expand(Undecided(use), "acb") is not None
    with pytest.raises(RepFoldError, match=message):
        repfold.expand(Undecided(use), "acb", example=X)
    with pytest.raises(RepFoldError, match=r"cannot run on the example"):
        repfold.expand(Undecided(use), "acb", example=X[0, 0])


def test_a_norm_that_others_read_too_stays():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.bn(y) + y

    network = settled(Twice(), torch.float32)
    rich = repfold.expand(network, "repvgg")
    assert isinstance(rich.bn, nn.BatchNorm2d)
    torch.testing.assert_close(rich(X), network(X))


def test_a_convolution_called_twice_keeps_its_calls():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(self.bn(self.conv(x)).relu())

    network = settled(Recurrent(), torch.float32)
    rich = repfold.expand(network, "mobileone")
    assert isinstance(rich.bn, nn.BatchNorm2d)
    torch.testing.assert_close(rich(X), network(X), rtol=1e-4, atol=1e-5)
    shared = nn.Conv2d(3, 3, 3, padding=1)
    twice = nn.Sequential(shared, nn.ReLU(), shared).eval()
    rich = repfold.expand(twice, "acb").eval()
    assert rich[0] is rich[2]
    torch.testing.assert_close(rich(X), twice(X), rtol=1e-4, atol=1e-5)
