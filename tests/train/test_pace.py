"""Measuring a run before it begins: a few real steps, of which nothing is left."""

from __future__ import annotations

import pytest
import torch

from repfold.train import checkpoint, train
from repfold.train.assemble import assemble
from repfold.train.distributed import Ranks
from repfold.train.events import Pace, Started, ignore
from repfold.train.machine import choose
from repfold.train.pace import batches, measure, unchanged
from repfold.train.replay import differences
from repfold.train.settings import resolve
from repfold.train.step import step


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "average": "ema:decay=0.9"},
        {"lookahead": 2, "expand": "dirac", "model": "vgg-pico"},
        {"model": "repopt-vgg-pico-hs"},
    ],
    ids=["adamw and ema", "lookahead", "scales"],
)
def test_a_run_that_was_measured_ends_at_the_bits_of_one_that_was_not(recipe, tmp_path, changes):
    recipe, started = recipe.replace(epochs=1, per_class=(10, 3), warmup="1it", **changes), []
    listener = lambda event: started.append(event) if isinstance(event, Started) else None  # noqa: E731
    train(recipe, tmp_path / "silent")
    train(recipe, tmp_path / "measured", on_event=listener)
    assert started[0].pace.step > 0 and started[0].pace.evaluation > 0
    one, other = (checkpoint.read(tmp_path / name / "checkpoint.pt") for name in ("silent", "measured"))
    assert differences(one, other) == []


@pytest.fixture
def run(recipe):
    return assemble(resolve(recipe), choose(recipe), Ranks(), ignore)


def test_what_steps_change_is_put_back_buffers_that_are_not_saved_too(run):
    network = run.parts.network
    network.register_buffer("seen", torch.zeros(()), persistent=False)
    network.register_forward_pre_hook(lambda module, inputs: setattr(module, "seen", module.seen.add_(1)))
    before = {name: tensor.clone() for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    with unchanged(run.parts):
        step(run.parts, *next(batches(run)), 0.1)
        assert network.seen == 1 and not torch.equal(network.get_parameter("head.weight"), before["head.weight"])
    after = dict((*network.named_parameters(), *network.named_buffers()))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not run.parts.optimizer.state and all(p.grad is None for p in network.parameters())


def test_a_pace_is_of_steps_and_evaluations(run):
    pace = measure(run)
    assert run.loaders.train.waited == 0
    assert pace.of(3, 10) == pytest.approx(30 * pace.step + 3 * pace.evaluation)
    assert Pace(2.0, 5.0).of(2, 10) == 50.0
