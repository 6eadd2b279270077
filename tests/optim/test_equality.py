"""Training the plain network under its rules equals training the branch network under torch.optim, weights and losses."""

import pytest
import torch
from branches import batches, random_network, train, twin

from repfold.optim import RepAdamW, RepSGD, reparameterize

SGD = {
    "plain": {"lr": 0.05},
    "momentum": {"lr": 0.05, "momentum": 0.9},
    "Nesterov and decay": {"lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
    "dampening and decay": {"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "weight_decay": 1e-3, "foreach": True},
}
ADAMW = {
    "plain": {"lr": 1e-2, "weight_decay": 0.0},
    "decay": {"lr": 1e-2, "weight_decay": 0.1},
    "large eps": {"lr": 1e-2, "eps": 1e-2},
    "amsgrad": {"lr": 1e-2, "amsgrad": True},
}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def compare(seed: int, operators: bool, ours, theirs, options, steps: int) -> float:
    branch_network = random_network(seed, operators)
    x = batches(1)[0][0]
    plain, rules = reparameterize(branch_network, x)
    expected = train(
        branch_network, lambda net: theirs([p for p in net.parameters() if p.requires_grad], **options), steps
    )
    losses = train(plain, lambda net: ours(net.parameters(), rules=rules, **options), steps)
    folded, _ = reparameterize(branch_network, x)  # the fold of the trained branches
    errors = [relative(torch.tensor(losses), torch.tensor(expected))]
    errors += [relative(p, q) for p, q in zip(plain.parameters(), folded.parameters(), strict=True)]
    return max(errors)


@pytest.mark.parametrize("operators", [False, True], ids=["masks", "operators"])
@pytest.mark.parametrize("options", SGD.values(), ids=SGD)
def test_sgd(operators, options):
    for seed in range(2):
        assert compare(seed, operators, RepSGD, torch.optim.SGD, options, 6 if operators else 100) < 1e-10


@pytest.mark.parametrize("operators", [False, True], ids=["masks", "operators"])
@pytest.mark.parametrize("options", ADAMW.values(), ids=ADAMW)
def test_adamw(operators, options):
    for seed in range(2):
        assert compare(seed, operators, RepAdamW, torch.optim.AdamW, options, 6 if operators else 100) < 1e-8


def test_the_comparison_sees_a_missing_rule():
    """Without its rules the plain network goes another way: the equality above is not vacuous."""
    network = random_network(0, False)
    plain, _ = reparameterize(network, batches(1)[0][0])
    expected = train(twin(network), lambda net: torch.optim.SGD(net.parameters(), lr=0.05), 20)
    losses = train(plain, lambda net: torch.optim.SGD(net.parameters(), lr=0.05), 20)
    assert relative(torch.tensor(losses), torch.tensor(expected)) > 1e-4
