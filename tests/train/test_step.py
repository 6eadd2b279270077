"""One step is what one writes by hand: forward, loss, backward, update, constraint, average."""

from __future__ import annotations

import copy

import torch
from torch.nn import functional

from repfold.train.assemble import Assembly, assemble
from repfold.train.distributed import Ranks
from repfold.train.events import ignore
from repfold.train.machine import choose
from repfold.train.max_norm import constrain
from repfold.train.position import Position
from repfold.train.settings import resolve
from repfold.train.step import step


def assembled(recipe) -> Assembly:
    return assemble(resolve(recipe), choose(recipe), Ranks(), ignore)


def test_a_step_is_the_one_written_by_hand(recipe):
    run = assembled(recipe.replace(max_norm=0.7, average="swa:start=0", nesterov=True))
    parts = run.parts
    network = copy.deepcopy(parts.network)
    batch = next(iter(run.loaders.train.epoch(0, 3)))
    outcome = step(parts, batch, Position(0, 3), 0.3)

    x_NCHW, labels = parts.transform(batch, 0, 3, 0.0)
    optimizer = torch.optim.SGD(network.parameters(), 0.3, momentum=0.9, nesterov=True)
    logits = network(x_NCHW)
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.grad.add_(parameter.detach(), alpha=recipe.weight_decay)
    optimizer.step()
    constrain(network, 0.7)
    for (name, mine), theirs in zip(parts.network.named_parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)
    hits = (logits.argmax(dim=1) == labels).float().mean()
    torch.testing.assert_close(outcome, torch.stack([loss.detach(), hits]))
    assert parts.average.updates == 0, "swa averages after epochs"


def test_steps_are_averaged_from_the_start_of_the_average_on(recipe):
    run = assembled(recipe.replace(average="ema:start=0.5"))
    batch = next(iter(run.loaders.train.epoch(0)))
    for number in range(5, 8):  # of 12
        step(run.parts, batch, Position(*divmod(number, 6)), 0.1, progress=number / 12)
    assert run.parts.average.updates == 2


def test_a_step_is_a_function_of_its_position(recipe):
    outcomes = []
    for number in (2, 2, 3):
        run = assembled(recipe.replace(mixup=0.2))
        batch = next(iter(run.loaders.train.epoch(0)))
        outcomes.append(step(run.parts, batch, Position(0, number), 0.1))
    assert torch.equal(outcomes[0], outcomes[1]) and not torch.equal(outcomes[0], outcomes[2])
