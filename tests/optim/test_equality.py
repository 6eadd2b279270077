"""Training the plain network under its rules equals training the branch network under torch.optim."""

import random

import pytest
import torch
from tests.optim.branches import Block, Scaled, batches, random_network, train, twin
from torch import nn

from repfold.blocks import CSLABranches
from repfold.optim import RepAdamW, RepSGD, parameter_groups, reparameterize

SGD = {
    "plain": {"lr": 0.05},
    "momentum": {"lr": 0.05, "momentum": 0.9},
    "Nesterov and decay": {"lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
    "dampening and decay": {"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "weight_decay": 1e-3, "foreach": True},
    "maximize": {"lr": 0.01, "momentum": 0.5, "weight_decay": 1e-2, "maximize": True},
    "fused": {"lr": 0.03, "momentum": 0.9, "weight_decay": 1e-2, "fused": True},
}
ADAMW = {
    "plain": {"lr": 1e-2, "weight_decay": 0.0},
    "decay": {"lr": 1e-2, "weight_decay": 0.1},
    "large eps": {"lr": 1e-2, "eps": 1e-2},
    "amsgrad": {"lr": 1e-2, "amsgrad": True},
    "maximize": {"lr": 1e-3, "maximize": True},
    "fused": {"lr": 1e-2, "weight_decay": 0.1, "fused": True},
}
# A step of an operator runs the fold forwards and backwards, so only these go all the way.
LONG = {"Nesterov and decay", "decay"}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def compare(seed: int, operators: bool, ours, theirs, options, steps: int) -> float:
    branch_network = random_network(seed, operators)
    x = batches(1)[0][0]
    plain, rules = reparameterize(branch_network, x)
    assert operators or {rule.kind for rule in rules} == {"mask"}
    expected = train(
        branch_network, lambda net: theirs([p for p in net.parameters() if p.requires_grad], **options), steps
    )
    losses = train(plain, lambda net: ours(net.parameters(), rules=rules, **options), steps)
    folded, _ = reparameterize(branch_network, x)  # the fold of the trained branches
    errors = [relative(torch.tensor(losses), torch.tensor(expected))]
    errors += [relative(p, q) for p, q in zip(plain.parameters(), folded.parameters(), strict=True)]
    return max(errors)


def seed_of(name: str) -> int:
    """Other settings, another network."""
    return [*SGD, *ADAMW].index(name)


@pytest.mark.parametrize("name", SGD)
def test_sgd_under_masks(name):
    assert compare(seed_of(name), False, RepSGD, torch.optim.SGD, SGD[name], 100) < 1e-10


@pytest.mark.parametrize("name", SGD)
def test_sgd_under_operators(name):
    assert compare(seed_of(name), True, RepSGD, torch.optim.SGD, SGD[name], 100 if name in LONG else 6) < 1e-10


@pytest.mark.parametrize("name", ADAMW)
def test_adamw_under_masks(name):
    assert compare(seed_of(name), False, RepAdamW, torch.optim.AdamW, ADAMW[name], 100) < 1e-8


@pytest.mark.parametrize("name", ADAMW)
def test_adamw_under_operators(name):
    assert compare(seed_of(name), True, RepAdamW, torch.optim.AdamW, ADAMW[name], 100 if name in LONG else 6) < 1e-8


@pytest.mark.parametrize("ours, theirs", [(RepSGD, torch.optim.SGD), (RepAdamW, torch.optim.AdamW)])
def test_a_pool_alone_beside_a_kernel(ours, theirs):
    """A pool only scales, but puts each weight in nine places: its rule is an operator all the same."""
    torch.manual_seed(0)
    draw = random.Random(0)
    pool = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.AvgPool2d(3, 1, 1))
    block = Block([Scaled(nn.Conv2d(4, 4, 3, 1, 1), 4, draw), Scaled(pool, 4, draw)], 4)
    network = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).double()
    plain, rules = reparameterize(network, batches(1)[0][0])
    assert [rule.kind for rule in rules] == ["operator"]
    expected = train(network, lambda net: theirs(net.parameters(), lr=1e-2), 20)
    losses = train(plain, lambda net: ours(net.parameters(), rules=rules, lr=1e-2), 20)
    assert relative(torch.tensor(losses), torch.tensor(expected)) < 1e-10


@pytest.mark.parametrize(
    "ours, theirs, options, decay",
    [
        (RepSGD, torch.optim.SGD, {"lr": 0.03, "momentum": 0.9, "nesterov": True}, 4e-5),
        (RepAdamW, torch.optim.AdamW, {"lr": 1e-3}, 1e-2),
    ],
)
def test_csla_with_parameter_groups_on_both_sides(ours, theirs, options, decay):
    """A whole network's branches, the identities' scales decaying as the diagonal of the folded kernel does."""
    torch.manual_seed(0)
    blocks = [CSLABranches(4, 6, stride=2, kxk_scale=0.7), CSLABranches(6, 6, point_scale=-0.4), CSLABranches(6, 6)]
    layers = [layer for block in blocks for layer in (block, nn.BatchNorm2d(6), nn.ReLU())]
    branches = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).double()
    x = batches(1)[0][0]
    plain, rules = reparameterize(branches, x)
    _train_under_groups(branches, lambda groups: theirs(groups, **options), decay)
    _train_under_groups(plain, lambda groups: ours(groups, rules=rules, **options), decay)
    folded, _ = reparameterize(branches, x)
    apart = max(relative(p, q) for p, q in zip(plain.parameters(), folded.parameters(), strict=True))
    assert apart < 1e-10


def _train_under_groups(network, make, decay):
    train(network, lambda net: make(parameter_groups(net).for_optimizer(decay)), 100)


def test_the_comparison_sees_a_missing_rule():
    """Without its rules the plain network goes another way: the equality above is not vacuous."""
    network = random_network(0, False)
    plain, _ = reparameterize(network, batches(1)[0][0])
    expected = train(twin(network), lambda net: torch.optim.SGD(net.parameters(), lr=0.05), 20)
    losses = train(plain, lambda net: torch.optim.SGD(net.parameters(), lr=0.05), 20)
    assert relative(torch.tensor(losses), torch.tensor(expected)) > 1e-4
