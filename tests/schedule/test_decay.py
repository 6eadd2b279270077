"""Each schedule of one piece against its definition, evaluated in x = epochs done, and the published values."""

import itertools
import math
import warnings
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repfold import schedule
from repfold.errors import RepFoldError

PER_EPOCH = 40


def at(curve: schedule.Schedule, x: float, n: int) -> float:
    return curve(round(x * PER_EPOCH), PER_EPOCH, n)


@pytest.mark.parametrize("n", [60, 120])
@pytest.mark.parametrize(
    ("share", "value"), [(0, 0.993307), (0.25, 0.924142), (0.5, 0.5), (0.75, 0.075858), (1, 0.006693)]
)
def test_inverse_sigmoid_has_the_published_values_whatever_the_length(n: int, share: float, value: float) -> None:
    assert at(schedule.inverse_sigmoid(), share * n, n) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(("n", "first", "last"), [(120, 0.99753, 0.002473), (60, 0.99945, 0.000553)])
def test_inverse_sigmoid_with_c_of_two(n: int, first: float, last: float) -> None:
    curve = schedule.inverse_sigmoid(c=2)
    assert at(curve, 0, n) == pytest.approx(first, abs=5e-6)
    assert at(curve, n, n) == pytest.approx(last, abs=5e-7)


@pytest.mark.parametrize("c", [12.0, 12.1, 500.0, 11.99])
def test_inverse_sigmoid_refuses_c_at_above_or_just_below_a_tenth_of_the_run(c: float) -> None:
    with pytest.raises(RepFoldError, match="n/10"):
        at(schedule.inverse_sigmoid(c=c), 0, 120)


def test_cosine_step_exponential_polynomial_are_their_equations() -> None:
    n = 90
    for x in (0, 1, 29.975, 30, 44.5, 60, 89.975):
        assert at(schedule.cosine(), x, n) == pytest.approx((1 + math.cos(math.pi * x / n)) / 2, rel=1e-9, abs=1e-15)
        assert at(schedule.step(), x, n) == pytest.approx(0.1 ** math.floor(x / 30))
        assert at(schedule.step(10, 0.5), x, n) == pytest.approx(0.5 ** math.floor(x / 10))
        assert at(schedule.exponential(), x, n) == pytest.approx(math.exp(-x / 10))
        assert at(schedule.polynomial(2, 0.01), x, n) == pytest.approx(0.99 * (1 - x / n) ** 2 + 0.01)
        assert at(schedule.constant(), x, n) == 1


@pytest.mark.parametrize(
    ("x", "value"),
    [
        *[(0, 1), (20, 1), (20.025, 1), (29.975, 1), (30, 0.2), (44.975, 0.2), (45, 0.04), (59.975, 0.04), (60, 0.008)],
        *[(60.025, 0.1), (74.975, 0.1), (75, 0.01), (90, 1e-3), (105, 1e-4), (119.975, 1e-4), (120, 1e-5)],
    ],
)
def test_adjusted_step_to_the_letter(x: float, value: float) -> None:
    assert at(schedule.adjusted_step(), x, 120) == pytest.approx(value)


def test_piecewise_holds_its_values_between_its_boundaries() -> None:
    curve = schedule.piecewise(("1ep", "60it", "50%"), (1, 3, 0.5, 0.25))
    assert [curve(step, PER_EPOCH, 4) for step in (0, 39, 40, 59, 60, 79, 80, 160)] == [
        1,
        1,
        3,
        3,
        0.5,
        0.5,
        0.25,
        0.25,
    ]
    assert all(at(schedule.piecewise(), x, 120) == at(schedule.step(), x, 120) == 1 for x in (0, 29.975))


def test_one_cycle_rises_to_the_base_rate_and_falls_to_its_end() -> None:
    curve = schedule.one_cycle(rise=0.25, start=0.1, end=0.01)
    assert [at(curve, x, 4) for x in (0, 0.5, 1, 2.5, 4)] == pytest.approx([0.1, 0.55, 1, 0.505, 0.01])
    straight = schedule.one_cycle(rise=0.25, start=0.1, end=0.01, shape="linear")
    assert [at(straight, x, 4) for x in (0.25, 0.5, 1, 1.75)] == pytest.approx([0.325, 0.55, 1, 0.7525])


@given(st.floats(0.01, 0.99), st.floats(0.001, 1), st.floats(0, 1), st.integers(2, 5000))
def test_one_cycle_peaks_where_it_is_told(rise: float, start: float, end: float, steps: int) -> None:
    values = [schedule.one_cycle(rise=rise, start=start, end=end)(step, steps, 1) for step in range(0, steps + 1)]
    peak = math.ceil(Fraction(rise) * steps)
    assert all(left <= right + 1e-12 for left, right in itertools.pairwise(values[:peak]))
    assert all(left >= right - 1e-12 for left, right in itertools.pairwise(values[peak:]))
    assert values[0] == pytest.approx(start) and values[-1] == pytest.approx(end)


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedule.constant(0),
        lambda: schedule.cosine(end=-0.1),
        lambda: schedule.step(size=0),
        lambda: schedule.step(factor=0),
        lambda: schedule.exponential(-1),
        lambda: schedule.polynomial(power=0),
        lambda: schedule.polynomial(end=2),
        lambda: schedule.one_cycle(rise=1),
        lambda: schedule.one_cycle(start=0),
        lambda: schedule.one_cycle(shape="bent"),
        lambda: schedule.piecewise((1, 2), (1, 0.1)),
        lambda: schedule.piecewise((1,), (1, 0)),
        lambda: schedule.piecewise((3, 2), (1, 2, 3))(0, 1, 9),
        lambda: schedule.exponential(100)(0, 1, 9),
        lambda: schedule.step("1it", 0.1)(0, 400, 1),
        lambda: schedule.cosine()(-1, 1, 9),
        lambda: schedule.cosine()(10, 1, 9),
        lambda: schedule.cosine()(0, 0, 9),
        lambda: schedule.cosine()(0, 5, 0),
    ],
)
def test_what_would_train_nothing_or_has_no_meaning_is_refused(make: object) -> None:
    with warnings.catch_warnings(), pytest.raises(RepFoldError):
        warnings.simplefilter("error")
        make()  # type: ignore[operator]


def test_linear_scaling() -> None:
    assert schedule.linear_scaling(0.1, 1024) == pytest.approx(0.4)
    assert schedule.linear_scaling(0.1, 32, reference=128) == pytest.approx(0.025)
    with pytest.raises(RepFoldError, match="at least 1"):
        schedule.linear_scaling(0.1, 0)
