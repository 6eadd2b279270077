from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repfold.report.scale import Scale, decade_ticks, round_ticks, tick_labels

VALUES = st.lists(st.floats(-1e9, 1e9).filter(lambda v: v == 0 or abs(v) > 1e-9), min_size=1, max_size=6)


@given(VALUES, st.integers(2, 10))
def test_ticks_ascend_enclose_the_values_and_are_few(values, most):
    ticks = round_ticks(values, most=most)
    room = 1e-6 * max(map(abs, values)) + 1e-12
    assert all(a < b for a, b in pairwise(ticks))
    assert ticks[0] <= min(values) + room and ticks[-1] >= max(values) - room
    assert 2 <= len(ticks) <= most + 1


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_percent_stays_within_its_ends(values):
    ticks = round_ticks(values, most=5, floor=0.0, ceiling=100.0)
    assert ticks[0] >= 0 and ticks[-1] <= 100
    assert ticks[0] <= min(values) + 1e-9 and ticks[-1] >= max(values) - 1e-9


@given(st.integers(1, 5000))
def test_whole_ticks_are_whole(epochs):
    assert all(tick.is_integer() for tick in round_ticks([0, epochs], most=8, whole=True))


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=5))
def test_decades_enclose_positive_values(values):
    ticks = decade_ticks(values, 5)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= min(values) * (1 + 1e-9) and ticks[-1] >= max(values) * (1 - 1e-9)


@given(VALUES)
def test_no_two_ticks_are_labelled_alike(values):
    labels = tick_labels(round_ticks(values, most=5))
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 0.1], ("0.00", "0.02", "0.04", "0.06", "0.08", "0.10")),
        ([12, 68], ("0", "20", "40", "60", "80")),
        ([0, 3.3e5], ("0", "100\u202fk", "200\u202fk", "300\u202fk", "400\u202fk")),
        ([0, 2.2e-5], ("0", "5·10⁻⁶", "1·10⁻⁵", "1.5·10⁻⁵", "2·10⁻⁵", "2.5·10⁻⁵")),
        ([123456, 123458], tuple(f"123.45{digits}\u202fk" for digits in ("6", "65", "7", "75", "8"))),
        ([], ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")),
    ],
)
def test_labels(values, labels):
    assert tick_labels(round_ticks(values, most=5)) == labels


def test_powers_of_ten_are_labelled_as_such():
    assert tick_labels((1e-3, 1e-2, 0.1, 1.0), log=True) == ("10⁻³", "10⁻²", "10⁻¹", "10⁰")


def test_a_scale_maps_its_ends_and_middle():
    linear, log = Scale(0, 10, 100, 0), Scale(0.01, 1, 0, 100, log=True)
    assert [linear(value) for value in (0, 5, 10)] == [100, 50, 0]
    assert [round(log(value), 9) for value in (0.01, 0.1, 1)] == [0, 50, 100]
