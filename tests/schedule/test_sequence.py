"""Warm restarts and step tails."""

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from repfold import schedule
from repfold.errors import RepFoldError


@pytest.mark.parametrize(("first", "factor", "epochs"), [(5, 1, 15), (3, 2, 21), (2, 3, 26)])
def test_sgdr_is_pytorch_s_warm_restarts(first: int, factor: int, epochs: int) -> None:
    per_epoch = 8
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    theirs = CosineAnnealingWarmRestarts(optimizer, first * per_epoch, factor, eta_min=0.01)
    for step in range(epochs * per_epoch):
        ours = schedule.sgdr(first, factor, end=0.01)(step, per_epoch, epochs)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(1, 7))
def test_each_cycle_is_a_whole_run_of_the_schedule_restarted(
    first: int, factor: int, cycles: int, per_epoch: int
) -> None:
    inner = schedule.warmup("1it", then=schedule.polynomial(end=0.1), start=0.5)
    if first * per_epoch == 1:
        inner = schedule.constant(0.5)  # a cycle of one step has no room for a warm-up
    curve = schedule.restarts(first, factor, of=inner)
    lengths = [first * factor**cycle for cycle in range(cycles)]
    expected = [inner(step, per_epoch, length) for length in lengths for step in range(length * per_epoch)]
    assert [curve(step, per_epoch, sum(lengths)) for step in range(len(expected))] == expected


def test_restarts_end_where_the_last_cycle_ends() -> None:
    assert schedule.restarts(5, 1)(100, 10, 10) == 0
    assert schedule.restarts(5, 1)(50, 10, 10) == 1


def test_a_run_cut_inside_a_cycle_warns_and_one_that_fits_does_not() -> None:
    with pytest.warns(schedule.ScheduleWarning, match="30 or 70 epochs"):
        schedule.restarts(10, 2)(0, 10, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.restarts(10, 2)(0, 10, 70)


@pytest.mark.parametrize(
    "keywords",
    [{"first": 0}, {"factor": 0.5}, {"top": 0}, {"end": (0.1, 2.0)}, {"top": (1.0, 0.1), "end": 0.2}, {"top": ()}],
)
def test_restarts_that_never_end_or_have_no_range_are_refused(keywords: dict[str, float]) -> None:
    with pytest.raises(RepFoldError):
        schedule.restarts(**keywords)  # type: ignore[arg-type]


def test_each_cycle_has_its_range_as_in_sgdr_s_equation() -> None:
    """η_min^i + (η_max^i - η_min^i)/2 · (1 + cos(π T_cur/T_i)); after the ranges given the last counts."""
    per_epoch, tops, ends = 4, [1.0, 0.5, 0.5], [0.1, 0.02, 0.0]
    curve = schedule.sgdr(2, 2, top=(1.0, 0.5), end=(0.1, 0.02, 0.0))
    expected = [
        end + (top - end) / 2 * (1 + math.cos(math.pi * step / (length * per_epoch)))
        for top, end, length in zip(tops, ends, (2, 4, 8), strict=True)
        for step in range(length * per_epoch)
    ]
    assert [curve(step, per_epoch, 14) for step in range(14 * per_epoch)] == pytest.approx(expected)
    text = "restarts:first=2ep,top=1/0.5,end=0.1/0.02/0"
    assert str(curve) == text and schedule.parse(text) == curve
    assert schedule.parse("sgdr:2,2,end=0.1/0.02/0,top=1/0.5") == curve


def test_the_other_reading_of_a_tail_cuts_the_sigmoid_of_the_whole_run() -> None:
    curve = schedule.sigmoid_step_tail(mode="overlap")
    whole = schedule.inverse_sigmoid()
    run = [curve(epoch * 7, 7, 120) for epoch in range(120)]
    assert run[:100] == [whole(epoch * 7, 7, 120) for epoch in range(100)]
    assert [value * 0.1 for value in run[100:]] == pytest.approx([1e-4] * 10 + [5e-5] * 10)
    assert schedule.parse("sigmoid-step-tail:mode=overlap") == curve == schedule.parse(str(curve))


def test_sigmoid_step_tail_is_100_epochs_of_sigmoid_then_the_two_rates() -> None:
    curve = schedule.sigmoid_step_tail()
    sigmoid = [1 / (1 + math.exp((x - 50) / 10)) for x in range(100)]
    run = [curve(epoch * 7, 7, 120) for epoch in range(121)]
    assert run[:100] == pytest.approx(sigmoid)
    assert [value * 0.1 for value in run[100:]] == pytest.approx([1e-4] * 10 + [5e-5] * 11)


@pytest.mark.parametrize(("lr", "warns"), [(0.0135, True), (0.0136, False), (0.1, False), (0.001, True)])
def test_a_tail_above_the_schedule_it_follows_warns(lr: float, warns: bool) -> None:
    """One step an epoch: the last rate of the sigmoid is that of x = 99, 0.00739 of the base rate."""
    curve = schedule.sigmoid_step_tail(lr=lr)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        curve(0, 1, 120)
    assert bool(caught) == warns
    assert all(issubclass(item.category, schedule.ScheduleWarning) for item in caught)


def test_tail_mistakes() -> None:
    with pytest.raises(RepFoldError, match="leaves nothing"):
        schedule.sigmoid_step_tail(length=60)(0, 10, 60)
    with pytest.raises(RepFoldError, match="rates"):
        schedule.step_tail(rates=())
    with pytest.raises(RepFoldError, match="lr"):
        schedule.step_tail(lr=0)
    with pytest.raises(RepFoldError, match="Did you mean 'overlap'"):
        schedule.step_tail(mode="overlaps")
