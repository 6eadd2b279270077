"""Folding at every step trains the branches exactly as running each of them does."""

import copy

import pytest
import torch
from torch import nn

from repfold import models
from repfold.blocks import CSLABranches, DOConv2d, ExpandConv2d, RepVGGBlock
from repfold.fold import FoldError, fold
from repfold.fold.online import OnlineFold

X = torch.randn(4, 3, 9, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Strips(nn.Module):
    """Branches of every kind without a norm inside, also grouped, pooled, dilated and padded by reflection."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(4, 6, 3, 2, 1, groups=2)
        self.strip = nn.Conv2d(4, 6, (1, 3), 2, (0, 1), groups=2, bias=False)
        self.pool = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), nn.AvgPool2d(3, 2, 1))
        self.scale = nn.Parameter(torch.randn(6, 1, 1))
        self.norm = nn.BatchNorm2d(6)
        self.wide = nn.Conv2d(6, 6, 3, padding=2, dilation=2, padding_mode="reflect")
        self.point = nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.kernel(x) + self.scale * self.strip(x) + self.pool(x)))
        return self.wide(x) - 0.5 * self.point(x) + x


def headed(*layers: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


NETWORKS = {
    "csla": lambda: headed(CSLABranches(3, 4, stride=2), nn.BatchNorm2d(4), nn.ReLU(), CSLABranches(4, 4), channels=4),
    "csla, trained scales": lambda: headed(
        CSLABranches(3, 4, train_scales=True),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        CSLABranches(4, 4, train_scales=True),
        channels=4,
    ),
    "strips": lambda: headed(nn.Conv2d(3, 4, 3), nn.ReLU(), Strips(), channels=6),
    "do-conv": lambda: headed(DOConv2d(3, 4), nn.BatchNorm2d(4), nn.ReLU(), DOConv2d(4, 4), channels=4),
    "expandnet": lambda: headed(ExpandConv2d(3, 4), nn.ReLU(), ExpandConv2d(4, 4), channels=4),
    "repopt-vgg-pico-hs": lambda: models.create("repopt-vgg-pico-hs", num_classes=3, preset="32px"),
}


def losses(network: nn.Module, forward: nn.Module, steps: int) -> list[float]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(X + step), torch.tensor([0, 1, 2, 0]))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_losses_weights_and_statistics_are_those_of_the_branches(make):
    torch.manual_seed(0)
    network = make().double().train()
    twin = copy.deepcopy(network)
    online = OnlineFold(twin, X)
    assert online.regions >= 2
    steps = 10
    assert losses(twin, online, steps) == pytest.approx(losses(network, network, steps), rel=1e-10)
    for (name, p), q in zip(network.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-9, atol=1e-11, msg=name)


def test_one_convolution_runs_a_region():
    network = NETWORKS["csla"]().double().train()
    online = OnlineFold(network, X)
    called = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, *_: called.append(module))
    online(X)
    assert not called
    network(X)
    assert len(called) == 4


def test_it_owns_nothing_and_evaluates_the_network_itself():
    network = NETWORKS["csla"]().double().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    online = OnlineFold(network, X)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(p is q for p, q in zip(online.parameters(), network.parameters(), strict=True))
    online.eval()
    assert torch.equal(online(X), network(X)) and not network.training
    plain, _ = fold(network, X)
    torch.testing.assert_close(plain(X), network(X))


def test_a_copy_trains_its_own_weights():
    network = NETWORKS["csla"]().double().train()
    online = OnlineFold(network, X)
    twin = copy.deepcopy(online)
    before = copy.deepcopy(network.state_dict())
    losses(twin.network, twin, 2)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert not torch.equal(twin.network[0].kxk.weight, network[0].kxk.weight)


def test_in_float32_and_under_autocast():
    torch.manual_seed(0)
    network = NETWORKS["csla"]().train()
    x = X.float()
    online = OnlineFold(network, x)
    torch.testing.assert_close(online(x), network(x), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        folded, ordinary = online(x), network(x)
    assert folded.dtype == torch.bfloat16
    torch.testing.assert_close(folded, ordinary, rtol=0.1, atol=0.05)
    folded.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


class Untraceable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


REFUSED = {
    "norms in branches": (lambda: RepVGGBlock(3, 3), r"branches\.\w+\.norm is a BatchNorm inside a branch.*block=csla"),
    "no branches": (lambda: nn.Conv2d(3, 4, 3), "has no branches"),
    "not traceable": (Untraceable, "cannot be followed as a whole"),
}


@pytest.mark.parametrize("make, message", REFUSED.values(), ids=REFUSED)
def test_refused(make, message):
    with pytest.raises(FoldError, match=message):
        OnlineFold(make().double(), X)


def test_a_bias_that_trains_stays_out_of_what_is_padded():
    """conv1x1 with a bias of zero, then a padded 3x3: one convolution now, but no longer after the first step."""
    inner = nn.Conv2d(3, 4, 1)
    nn.init.zeros_(inner.bias)
    with pytest.raises(FoldError, match="has no branches"):
        OnlineFold(nn.Sequential(inner, nn.Conv2d(4, 4, 3, padding=1)).double(), X)
