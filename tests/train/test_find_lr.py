"""The range test: what it reads off curves, and that it trains like training."""

import json
import math

import pytest

from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.train import train
from repfold.train.events import Stepped
from repfold.train.find_lr import find_lr, read, smooth

RATES = [1e-5 * 10 ** (6 * step / 99) for step in range(100)]


def test_the_suggestion_lies_between_the_steepest_fall_and_the_lowest_loss():
    def loss(rate):  # falls most around 1e-2, explodes beyond 1
        return 2.3 - 1.5 / (1 + (0.01 / rate) ** 2) + (rate / 1.5) ** 4

    found = read(RATES, [loss(rate) for rate in RATES])
    assert found.steepest == pytest.approx(0.015, rel=1)
    assert 0.1 < found.limit < 2
    assert found.steepest < found.suggestion <= found.limit / 3


@pytest.mark.parametrize("loss", [lambda place: 2.3, lambda place: 2.3 + place, lambda place: 2.3 + place % 3])
def test_no_rate_is_suggested_when_none_helps(loss):
    assert read(RATES, [loss(place) for place in range(100)]).suggestion is None


def test_smoothing_keeps_a_constant_and_begins_at_the_first_value():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smooth([2.0, 4.0])[0] == 2.0


def test_it_finds_a_rate_that_trains_and_stops_at_an_explosion(recipe):
    found = find_lr(recipe, low=1e-4, high=1e4, steps=60)
    assert found.suggestion is not None and 1e-3 < found.suggestion < 3
    assert len(found.rates) < 60 and ("exploded" in found.stopped or "not finite" in found.stopped)
    assert found.rates[1] / found.rates[0] == pytest.approx(1e8 ** (1 / 59))
    assert all(map(math.isfinite, found.losses))


def test_it_makes_the_steps_of_training(recipe, tmp_path):
    """At the rates of a run's schedule, and under the same constraint on filters, its losses are the run's."""
    recipe = recipe.replace(max_norm=0.5, schedule="constant", warmup="0", lr=0.5, epochs=2)
    losses: list[float] = []

    def note(event) -> None:
        if isinstance(event, Stepped):
            losses.append(event.loss * event.step - sum(losses[event.epoch * 6 :]))

    train(recipe, tmp_path, on_event=note)
    found = find_lr(recipe, low=0.5, high=0.5 * (1 + 1e-12), steps=12)
    assert found.losses == pytest.approx(losses, rel=1e-4)
    free = find_lr(recipe.replace(max_norm=0.0), low=0.5, high=0.5 * (1 + 1e-12), steps=12)
    assert free.losses[-1] != pytest.approx(losses[-1], rel=1e-2)


def test_it_is_the_same_each_time(recipe):
    once, again = (find_lr(recipe, steps=10) for _ in range(2))
    assert once == again


@pytest.mark.parametrize("wrong", [{"low": 1.0, "high": 0.1}, {"low": 0.0}, {"steps": 3}, {"high": math.inf}])
def test_wrong_ranges_are_refused(recipe, wrong):
    with pytest.raises(RepFoldError, match="low < high"):
        find_lr(recipe, **wrong)


def test_the_command_draws_and_suggests(tmp_path, capsys):
    small = ["--per-class", "20", "5", "--model", "repvgg-pico", "--preset", "32px", "--batch", "32"]
    main(["find-lr", "digits", *small, "--steps", "40", "--high", "1", "--plot", str(tmp_path / "lr.svg"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["suggestion"] and found["plot"] == str(tmp_path / "lr.svg") and len(found["rates"]) == 40
    assert (tmp_path / "lr.svg").read_text().startswith("<svg")
    main(["find-lr", "digits", *small, "--steps", "10", "--plot", str(tmp_path / "lr.svg")])
    assert "10 steps, from 1e-05 to 10" in capsys.readouterr().out
