"""Advice that was followed: records of real runs before and after, by studies/advice.py and studies/fine_tune.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from repfold.report.advice import advise
from repfold.report.records import Run, read_runs
from repfold.report.signs import Change, Signs

ADVISED = Path(__file__).parent / "advised"
# Directory -> the topic of the finding that was followed, and what got better by it.
FOLLOWED = {
    "slow": ("slow", "val_top1"),
    "chance-classifier": ("chance", "val_top1"),
    "too-high": ("chance", "val_top1"),
    "underfits": ("underfits", "val_top1"),
    "too-short": ("underfits", "val_top1"),  # with nothing to take away, so that more epochs are advised
    "overfits": ("overfits", "val_top1"),
    "uneven": ("uneven", "val_recall"),
    "constant": ("schedule", "val_top1"),
    "no-warm-up": ("warm-up", "val_top1"),
    "unstable": ("spikes", "val_top1"),
    "learns-late": ("spikes", "val_top1"),
}
# Settings of the place and of the machine, not of the training.
ELSEWHERE = {"data", "init"}


def pair(name: str) -> tuple[Run, Run]:
    before, after = read_runs([ADVISED / name / "before", ADVISED / name / "after"])
    return before, after


def test_every_recorded_pair_is_tested():
    assert {path.name for path in ADVISED.iterdir()} == FOLLOWED.keys()


@pytest.mark.parametrize("name", FOLLOWED)
def test_following_it_helped_by_more_than_noise(name):
    topic, score = FOLLOWED[name]
    before, after = pair(name)
    assert topic in {finding.topic for finding in advise(before)}
    gain = after.column(score)[-1] - before.column(score)[-1]
    assert gain > Signs(before).noise > 0


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_second_run_did_what_was_said_and_nothing_else(name):
    before, after = pair(name)
    said = {change.setting: change for finding in advise(before) for change in finding.changes}
    differing = {key for key in before.recipe if before.recipe[key] != after.recipe[key]} - ELSEWHERE
    assert differing == said.keys()
    assert all(is_value(change, after.recipe[setting]) for setting, change in said.items())


@pytest.mark.parametrize("name", [name for name, (topic, _) in FOLLOWED.items() if topic == "chance"])
def test_chance_is_never_called_fine_and_nothing_else_is_read_into_it(name):
    before, after = pair(name)
    assert {finding.topic for finding in advise(before)} <= {"chance", "warm-up", "spikes", "loader"}
    assert "chance" not in {finding.topic for finding in advise(after)}


def is_value(change: Change, value: object) -> bool:
    try:
        return float(change.then) == pytest.approx(float(str(value)))
    except ValueError:
        return str(value) == change.then
