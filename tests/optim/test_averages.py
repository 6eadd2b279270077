"""Averages of weights and Lookahead, against their definitions."""

import copy

import pytest
import torch
from torch import nn

from repfold.errors import RepFoldError
from repfold.optim.averages import Average, reestimate_statistics
from repfold.optim.lookahead import Lookahead


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def train_a_step(net, optimizer, step):
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    net(x).square().mean().backward()
    optimizer.step()


def test_an_equal_average_is_the_mean_of_the_weights():
    net = network()
    average = Average(net, decay=None)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    seen = []
    for step in range(4):
        train_a_step(net, optimizer, step)
        average.update(net)
        seen.append(net[4].weight.detach().clone())
    torch.testing.assert_close(average.weights["4.weight"], torch.stack(seen).mean(0))


def test_an_exponential_average_follows_its_recurrence_with_a_ramp():
    net = nn.Linear(1, 1)
    average = Average(net, decay=0.5)
    expected = net.weight.detach().clone()
    for update in range(1, 9):
        net.weight.data.fill_(float(update))
        average.update(net)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    torch.testing.assert_close(average.weights["weight"], expected)


def test_within_the_block_the_network_is_the_average_and_afterwards_itself_bit_for_bit():
    net = network()
    average = Average(net, decay=0.9)
    train_a_step(net, torch.optim.SGD(net.parameters(), 0.5), 0)
    average.update(net)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(KeyError), average.applied(net):
        assert torch.equal(net[4].weight, average.weights["4.weight"])
        net[1].running_mean.fill_(7)
        raise KeyError
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_statistics_become_the_means_over_the_batches():
    net = network().train()
    net[1].running_mean.fill_(100)
    batches = [torch.randn(16, 3, 8, 8) for _ in range(3)]
    reestimate_statistics(net, batches)
    out = [net[0](x) for x in batches]
    torch.testing.assert_close(net[1].running_mean, torch.stack([y.mean((0, 2, 3)) for y in out]).mean(0))
    torch.testing.assert_close(net[1].running_var, torch.stack([y.var((0, 2, 3)) for y in out]).mean(0))
    assert net.training and net[1].training and net[1].momentum == 0.1


def test_statistics_of_networks_without_any_draw_no_batch():
    def never():
        raise AssertionError("a batch was drawn")
        yield

    reestimate_statistics(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), never())


@pytest.mark.parametrize("decay", [None, 0.9])
def test_an_average_goes_on_from_its_state(decay):
    net = network()
    average = Average(net, decay=decay)
    average.update(net)
    again = Average(network(), decay=decay)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    net[4].weight.data.normal_()
    for one in (average, again):
        one.update(net)
    assert all(torch.equal(average.weights[key], again.weights[key]) for key in average.weights)
    with pytest.raises(RepFoldError, match="another network"):
        again.load_state_dict({"weights": {}, "updates": 0})


def test_lookahead_is_its_algorithm():
    net, twin = network(), network()
    optimizer = Lookahead(torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), every=3, alpha=0.25)
    inner = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    slow = [p.detach().clone() for p in twin.parameters()]
    for step in range(7):
        train_a_step(net, optimizer, step)
        train_a_step(twin, inner, step)
        if step % 3 == 2:
            slow = [s + 0.25 * (p.detach() - s) for s, p in zip(slow, twin.parameters())]
            for s, p in zip(slow, twin.parameters()):
                p.data.copy_(s)
    for a, b in zip(net.parameters(), twin.parameters()):
        torch.testing.assert_close(a, b)


def test_lookahead_goes_on_from_its_state_and_shares_its_groups():
    def trained(steps, state=None, weights=None):
        net = network()
        optimizer = Lookahead(torch.optim.Adam(net.parameters(), 0.01), every=4)
        if state is not None:
            net.load_state_dict(weights)
            optimizer.load_state_dict(state)
        for step in steps:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (step + 1)
            train_a_step(net, optimizer, step)
        return net, optimizer

    whole, _ = trained(range(10))
    half, optimizer = trained(range(6))
    resumed, after = trained(range(6, 10), copy.deepcopy(optimizer.state_dict()), half.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    assert after.inner.param_groups[0]["lr"] == 0.001
    torch.optim.lr_scheduler.LambdaLR(after, lambda _: 0.5)
    assert after.inner.param_groups[0]["lr"] == 0.0005


def test_an_epoch_ends_on_slow_weights():
    net = network()
    optimizer = Lookahead(torch.optim.SGD(net.parameters(), 0.1), every=100, alpha=0.5)
    start = net[4].weight.detach().clone()
    train_a_step(net, optimizer, 0)
    fast = net[4].weight.detach().clone()
    optimizer.synchronise()
    torch.testing.assert_close(net[4].weight.detach(), (start + fast) / 2)


@pytest.mark.parametrize("options", [{"every": 0}, {"alpha": 0}, {"alpha": 1.5}])
def test_wrong_lookaheads_are_refused(options):
    with pytest.raises(RepFoldError, match="usual"):
        Lookahead(torch.optim.SGD(network().parameters(), 0.1), **options)


def test_a_state_of_another_optimizer_is_refused():
    net = network()
    state = Lookahead(torch.optim.SGD(net.parameters(), 0.1)).state_dict()
    with pytest.raises(RepFoldError, match="SGD"):
        Lookahead(torch.optim.Adam(net.parameters())).load_state_dict(state)


def test_a_decay_of_one_is_refused():
    with pytest.raises(RepFoldError, match="usual"):
        Average(network(), decay=1.0)
