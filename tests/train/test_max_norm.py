"""w_k ← w_k · min(1, c/‖w_k‖) for every filter, in a user's loop and in training."""

import pytest
import torch
from torch import nn

import repfold
from repfold.errors import RepFoldError
from repfold.train import Recipe, train
from repfold.train.max_norm import constrain


def test_each_filter_is_shortened_to_the_limit_and_shorter_ones_are_left():
    network = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Linear(4, 4)).double()
    before = [p.clone() for p in network.parameters()]
    limit = float(before[0].flatten(1).norm(dim=1).median())
    constrain(network, limit)
    norms = before[0].flatten(1).norm(dim=1)
    factor = torch.clamp(limit / norms, max=1.0).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(network[0].weight, before[0] * factor, rtol=1e-6, atol=1e-9)
    assert all(torch.equal(p, q) for p, q in zip(list(network.parameters())[1:], before[1:]))


def test_training_keeps_the_limit(tmp_path):
    options = "activation=leaky-relu,init=delta-orthogonal,norm=false"
    recipe = Recipe(
        data="digits", model="vgg-pico", preset="32px", model_options=options, max_norm=0.5, epochs=1,
        per_class=(10, 3), batch=50, lr=0.05, precision="fp32",
    )  # fmt: skip
    train(recipe, tmp_path / "run")
    weights = [m.weight for m in repfold.load(tmp_path / "run").modules() if isinstance(m, nn.Conv2d)]
    assert max(float(w.flatten(1).norm(dim=1).max()) for w in weights) <= 0.5 * (1 + 1e-4)


def test_a_negative_limit_is_refused():
    with pytest.raises(RepFoldError, match="max_norm"):
        Recipe(max_norm=-1.0)
