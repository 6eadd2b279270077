"""RepSGD and RepAdamW are optimizers of torch.optim: groups, closures, hooks, AMP, state, copies, processes."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from tests.optim.branches import batches, random_network
from torch import nn

from repfold.blocks import CSLABranches
from repfold.optim import OptimError, RepAdamW, RepSGD, Rules, lr_scheduler, reparameterize
from repfold.schedule import cosine

OPTIMIZERS = {
    "sgd": (RepSGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}),
    "sgd foreach": (RepSGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "foreach": True}),
    "sgd fused": (RepSGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "fused": True}),
    "adamw": (RepAdamW, {"lr": 1e-2, "amsgrad": True}),
    "adamw fused": (RepAdamW, {"lr": 1e-2, "fused": True}),
}
every_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS)
masks_and_operators = pytest.mark.parametrize("operators", [False, True], ids=["masks", "operators"])


def plain_network(operators: bool = False, seed: int = 0) -> tuple[nn.Module, Rules]:
    return reparameterize(random_network(seed, operators).float(), batches(1)[0][0].float())


def make(kind: str, params: object, rules: Rules) -> torch.optim.Optimizer:
    cls, options = OPTIMIZERS[kind]
    return cls(params, rules=rules, **options)


def run(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[float]:
    losses = []
    for x, y in batches(last)[first:]:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x.float()), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@every_optimizer
@masks_and_operators
def test_resumes_bit_exactly_from_a_safely_loaded_state(kind, operators):
    network, rules = plain_network(operators)
    optimizer = make(kind, network.parameters(), rules)
    run(network, optimizer, 0, 3)
    file = io.BytesIO()
    torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected = run(network, optimizer, 3, 6)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again, rules = plain_network(operators)
    again.load_state_dict(saved["network"])
    resumed = make(kind, again.parameters(), rules)
    resumed.load_state_dict(saved["optimizer"])
    assert run(again, resumed, 3, 6) == expected
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), network.parameters()))


@every_optimizer
def test_gradients_under_a_rule_stay_as_backward_left_them(kind):
    network, rules = plain_network()
    ruled = [p for rule in rules for p in rule.parameters]
    optimizer = make(kind, network.parameters(), rules)
    x, y = batches(1)[0]
    nn.functional.cross_entropy(network(x.float()), y).backward()
    before = [p.grad.clone() for p in ruled]
    optimizer.step()
    assert all(torch.equal(p.grad, kept) for p, kept in zip(ruled, before))


@every_optimizer
def test_groups_have_their_own_options_and_schedulers_set_them(kind):
    network, rules = plain_network()
    ruled = [p for rule in rules for p in rule.parameters]
    rest = [p for p in network.parameters() if all(p is not other for other in ruled)]
    optimizer = make(kind, [{"params": ruled, "lr": 0.0, "weight_decay": 0.0}, {"params": rest}], rules)
    before, rest_before = copy.deepcopy(ruled), copy.deepcopy(rest)
    run(network, optimizer, 0, 2)
    assert all(torch.equal(p, kept) for p, kept in zip(ruled, before))
    assert not any(torch.equal(p, kept) for p, kept in zip(rest, rest_before))
    scheduler = lr_scheduler(optimizer, cosine(), steps_per_epoch=2, epochs=1)
    run(network, optimizer, 2, 3)
    scheduler.step()
    assert optimizer.param_groups[1]["lr"] < OPTIMIZERS[kind][1]["lr"]


def test_named_parameters_are_taken():
    network, rules = plain_network()
    optimizer = RepSGD(network.named_parameters(), rules=rules, lr=0.1)
    assert "param_names" in optimizer.param_groups[0]
    run(network, optimizer, 0, 1)


@every_optimizer
def test_parameters_twice_or_missing_are_named(kind):
    network, rules = plain_network()
    given = list(network.parameters())
    with pytest.raises(OptimError, match="given twice"):
        make(kind, [*given, given[0]], rules)
    with pytest.raises(OptimError, match="given twice"):
        make(kind, [{"params": given}, {"params": given[0]}], rules)
    (first, *_), (name, *_) = rules.rules[0].parameters, rules.rules[0].names
    with pytest.raises(OptimError, match=f"{name} has a rule but is not among"):
        make(kind, [p for p in given if p is not first], rules)
    with pytest.raises(OptimError, match=r"rules\.on\(copy\)"):
        make(kind, copy.deepcopy(network).parameters(), rules)


def test_a_coupled_bias_in_a_group_of_its_own_is_refused():
    inner = nn.Conv2d(4, 4, 1).requires_grad_(False)
    network = nn.Sequential(inner, nn.Conv2d(4, 4, 3, bias=False), nn.ReLU())
    plain, rules = reparameterize(network, torch.randn(2, 4, 6, 6))
    assert [rule.couples for rule in rules] == [True]
    weight, bias = rules.rules[0].parameters
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    with pytest.raises(OptimError, match="reach the weight and the bias together"):
        RepSGD(groups, rules=rules, lr=0.1)
    RepSGD(plain.parameters(), rules=rules, lr=0.1, weight_decay=0.1)


@pytest.mark.parametrize("option", ["differentiable", "capturable"])
def test_options_that_do_not_hold_under_rules_are_refused(option):
    network, rules = plain_network()
    with pytest.raises(OptimError, match=f"does not support {option}"):
        RepAdamW(network.parameters(), rules=rules, **{option: True})


@every_optimizer
def test_a_closure_is_run_once_with_gradients(kind):
    network, rules = plain_network()
    reference, same = plain_network()
    optimizer = make(kind, network.parameters(), rules)
    x, y = batches(1)[0]
    calls = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x.float()), y)
        loss.backward()
        calls.append(loss.item())
        return loss

    returned = optimizer.step(closure)
    assert [returned.item()] == calls == run(reference, make(kind, reference.parameters(), same), 0, 1)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), reference.parameters()))


@every_optimizer
def test_hooks_run_once_a_step(kind):
    torch.optim.SGD([nn.Parameter(torch.ones(1))]), torch.optim.AdamW([nn.Parameter(torch.ones(1))])
    network, rules = plain_network()
    optimizer = make(kind, network.parameters(), rules)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    run(network, optimizer, 0, 1)
    assert seen == ["pre", "post"]


def scaled_step(network: nn.Module, optimizer: torch.optim.Optimizer, factor: float = 1.0) -> torch.amp.GradScaler:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    x, y = batches(1)[0]
    loss = nn.functional.cross_entropy(network(x.float()), y) * factor
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return scaler


@every_optimizer
@masks_and_operators
def test_a_gradient_scaler_changes_nothing_but_the_scale(kind, operators):
    network, rules = plain_network(operators)
    reference, same = plain_network(operators)
    scaled_step(network, make(kind, network.parameters(), rules))
    run(reference, make(kind, reference.parameters(), same), 0, 1)
    for p, q in zip(network.parameters(), reference.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@every_optimizer
def test_an_overflow_skips_the_step(kind):
    network, rules = plain_network()
    optimizer = make(kind, network.parameters(), rules)
    before = copy.deepcopy(list(network.parameters()))
    scaler = scaled_step(network, optimizer, factor=float("inf"))
    assert all(torch.equal(p, kept) for p, kept in zip(network.parameters(), before)) and not optimizer.state
    assert scaler.get_scale() == 2.0**9


@every_optimizer
def test_a_closure_under_amp_is_refused(kind):
    network, rules = plain_network()
    optimizer = make(kind, network.parameters(), rules)
    scaler = torch.amp.GradScaler("cpu")
    x, y = batches(1)[0]
    scaler.scale(nn.functional.cross_entropy(network(x.float()), y)).backward()
    with pytest.raises(OptimError, match=r"a closure under a GradScaler.*give no closure"):
        scaler.step(optimizer, lambda: 0.0)
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):  # GradScaler's own
        torch.amp.GradScaler("cpu").step(optimizer, closure=lambda: 0.0)


def test_clipping_by_the_global_norm_is_refused():
    network, rules = plain_network()
    with pytest.raises(OptimError, match=r"breaks the equivalence.*branches' gradients"):
        RepSGD(network.parameters(), rules=rules, lr=0.1).clip_grad_norm_(1.0)


@every_optimizer
def test_a_state_of_another_network_is_refused(kind):
    network, rules = plain_network(seed=0)
    optimizer = make(kind, network.parameters(), rules)
    foreign = plain_network(seed=1)
    with pytest.raises(OptimError, match="for other layers"):
        optimizer.load_state_dict(make(kind, foreign[0].parameters(), foreign[1]).state_dict())
    ordinary = torch.optim.SGD(network.parameters(), lr=0.1).state_dict()
    with pytest.raises(OptimError, match="carries no rules"):
        optimizer.load_state_dict(ordinary)


def test_a_state_of_other_widths_is_refused():
    def wide(channels: int) -> torch.optim.Optimizer:
        network, rules = reparameterize(CSLABranches(4, channels), torch.randn(2, 4, 6, 6))
        return RepSGD(network.parameters(), rules=rules, lr=0.1)

    with pytest.raises(OptimError, match=r"is \[8, 4, 3, 3\], not \[6, 4, 3, 3\]"):
        wide(6).load_state_dict(wide(8).state_dict())


@every_optimizer
def test_a_state_of_other_scales_is_refused(kind):
    def with_scale(value: float) -> torch.optim.Optimizer:
        branches = random_network(0, False)
        scale = next(buffer for name, buffer in branches.named_buffers() if name.endswith("scale"))
        scale[0] = value
        network, rules = reparameterize(branches, batches(1)[0][0])
        return make(kind, network.parameters(), rules)

    state = with_scale(0.5).state_dict()
    with_scale(0.5).load_state_dict(state)
    with pytest.raises(OptimError, match="other scales"):
        with_scale(0.5001).load_state_dict(state)


@every_optimizer
@masks_and_operators
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_goes_on_as_the_original(kind, operators, duplicate: Callable):
    network, rules = plain_network(operators)
    optimizer = make(kind, network.parameters(), rules)
    run(network, optimizer, 0, 2)
    twin, its_optimizer = duplicate((network, optimizer))
    expected = run(network, optimizer, 2, 4)
    assert run(twin, its_optimizer, 2, 4) == expected
    assert its_optimizer.rules.rules[0].parameters[0] is twin.get_parameter(rules.rules[0].names[0])


def test_parameters_without_gradients_stay():
    network, rules = plain_network()
    frozen = rules.rules[0].parameters[0]
    frozen.requires_grad_(False)
    before = frozen.clone()
    for kind in OPTIMIZERS:
        run(network, make(kind, network.parameters(), rules), 0, 2)
    assert torch.equal(frozen, before)


@every_optimizer
def test_channels_last_weights_train_alike(kind):
    network, rules = plain_network()
    reference, same = plain_network()
    network.to(memory_format=torch.channels_last)
    optimizer, expected = make(kind, network.parameters(), rules), make(kind, reference.parameters(), same)
    assert run(network, optimizer, 0, 3) == pytest.approx(run(reference, expected, 0, 3), rel=1e-4)
    # A state that lies in memory in another order, and gradients that a user put there, too.
    optimizer.load_state_dict(expected.state_dict())
    expected.load_state_dict(copy.deepcopy(expected.state_dict()))
    for parameters, step in ((reference.parameters(), expected.step), (network.parameters(), optimizer.step)):
        generator = torch.Generator().manual_seed(0)
        for parameter in parameters:
            parameter.grad = None
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        step()
    for parameter, other in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-4, atol=1e-5)


def share(rank: int, port: int, results: object) -> None:
    """One of two processes: train on its half of each batch."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    network, rules = plain_network()
    network.eval()  # so that batch statistics do not depend on the share
    optimizer = make("sgd", network.parameters(), rules)
    parallel = nn.parallel.DistributedDataParallel(network)
    for x, y in batches(3):
        optimizer.zero_grad()
        half = slice(2 * rank, 2 * rank + 2)
        nn.functional.cross_entropy(parallel(x[half].float()), y[half]).backward()
        optimizer.step()
    results[rank] = [p.detach().clone() for p in network.parameters()]
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(share, (port, results), nprocs=2)
        first, second = results[0], results[1]
    network, rules = plain_network()
    network.eval()
    run(network, make("sgd", network.parameters(), rules), 0, 3)
    for p, q, alone in zip(first, second, network.parameters()):
        assert torch.equal(p, q)
        torch.testing.assert_close(p, alone.detach(), rtol=1e-4, atol=1e-6)
