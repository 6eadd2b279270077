"""What was expanded trains, in every branch, and folds again afterwards."""

from __future__ import annotations

import pytest
import torch
from tests.expand.users_networks import FOREIGN, settled
from torch import nn

import repfold
from repfold.expand import EXPANDABLE
from repfold.optim import RepSGD, reparameterize

pytestmark = pytest.mark.filterwarnings("ignore::repfold.expand.ExpandWarning")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", sorted(EXPANDABLE))
def test_every_branch_trains_and_the_result_folds(name, fresh):
    torch.manual_seed(0)
    network = settled(FOREIGN["resnet"](), torch.float32)
    rich = repfold.expand(network, name, fresh=fresh).train()
    before = {key: p.detach().clone() for key, p in rich.named_parameters()}
    optimizer = torch.optim.SGD(rich.parameters(), lr=0.02, momentum=0.9)
    x, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 5
    losses = []
    for _ in range(6):
        loss = nn.functional.cross_entropy(rich(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    # The branches that begin with scale 0 have left it, and then their kernels have moved. (A scale or shift between
    # two norms need not, since the second takes it away again.)
    assert [key for key, p in rich.named_parameters() if torch.equal(p, before[key]) and p.dim() > 1] == []
    assert all(m.weight.any() for m in rich.modules() if isinstance(m, nn.BatchNorm2d))
    plain, certificate = repfold.fold(rich.eval(), x)
    assert certificate.error < 1e-4
    assert sum(p.numel() for p in plain.parameters()) <= sum(p.numel() for p in network.parameters())


def test_constant_scales_train_as_one_kernel():
    torch.manual_seed(0)
    network = settled(FOREIGN["resnet"](), torch.float32)
    rich = repfold.expand(network, "csla")
    x, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 5
    plain, rules = reparameterize(rich, x)
    assert len(rules.rules) == 7  # all but the 1x1
    for net, optimizer in (
        (rich.train(), torch.optim.SGD(rich.parameters(), lr=0.01)),
        (plain, RepSGD(plain.parameters(), lr=0.01, rules=rules)),
    ):
        for _ in range(3):
            loss = nn.functional.cross_entropy(net(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(plain.eval()(x), rich.eval()(x), rtol=1e-3, atol=1e-4)


def test_an_expanded_network_is_an_ordinary_one(tmp_path):
    torch.manual_seed(0)
    network = settled(FOREIGN["lenet"](), torch.float32)
    rich = repfold.expand(network, "acb")
    torch.save(rich.state_dict(), tmp_path / "rich.pt")
    again = repfold.expand(FOREIGN["lenet"](), "acb", fresh=True).eval()
    again.load_state_dict(torch.load(tmp_path / "rich.pt", weights_only=True))
    x = torch.randn(2, 3, 14, 15)
    assert torch.equal(again(x), rich(x))
    exported = torch.export.export(rich, (x,)).module()
    torch.testing.assert_close(exported(x), rich(x))
