"""The time that a run still takes, with a clock that the test turns."""

from __future__ import annotations

import pytest

from repfold.cli.remaining import Remaining, in_words
from repfold.train.events import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_begins_with_what_was_measured_and_follows_what_happens():
    clock = Clock()
    left = Remaining(Pace(1.0, 10.0), epochs=4, steps=20, clock=clock)
    assert left.seconds() == 120  # four epochs of 20 steps and an evaluation
    clock.now = 40.0  # all takes twice as long
    left.stepped(0, 20)
    assert left.seconds() == pytest.approx(200)
    clock.now = 60.0
    left.evaluated(1)
    assert left.seconds() == pytest.approx(180)


def test_a_run_that_goes_on_counts_only_its_own_session():
    clock = Clock()
    left = Remaining(Pace(1.0, 0.0), epochs=10, steps=10, done=5, step=5, clock=clock)
    assert left.seconds() == 45
    clock.now = 15.0
    left.evaluated(6)
    assert left.seconds() == pytest.approx(120)


def test_without_a_measurement_nothing_is_said_before_the_first_step():
    clock = Clock()
    left = Remaining(None, epochs=2, steps=10, clock=clock)
    assert left.seconds() is None
    clock.now = 1.0
    left.stepped(0, 1)
    assert left.seconds() == pytest.approx(19)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (1210, "20 min"), (7500, "2 h 5 min")],
)
def test_times_as_people_say_them(seconds, words):
    assert in_words(seconds) == words
