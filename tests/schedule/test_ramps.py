"""Warm-up and cool-down: where they start and end, what runs after or under them, and that they fit into the run."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repfold import schedule
from repfold.errors import RepFoldError

STEPS, PER_EPOCH, EPOCHS = 200, 10, 20


def values(curve: schedule.Schedule) -> list[float]:
    return [curve(step, PER_EPOCH, EPOCHS) for step in range(STEPS + 1)]


def test_linear_prefix_rises_by_equal_steps_then_hands_over_the_rest_of_the_run() -> None:
    run = values(schedule.warmup(5, then=schedule.cosine()))
    assert run[:50] == pytest.approx([(step + 1) / 50 for step in range(50)])
    assert run[50:] == pytest.approx([schedule.cosine()(step, PER_EPOCH, 15) for step in range(151)])


def test_linear_overlap_multiplies_the_schedule_that_runs_under_it() -> None:
    run = values(schedule.warmup("50it", then=schedule.cosine(), mode="overlap"))
    plain = values(schedule.cosine())
    assert run[:50] == pytest.approx([plain[step] * (step + 1) / 50 for step in range(50)])
    assert run[50:] == plain[50:]


def test_a_given_start_is_the_rate_of_the_first_step() -> None:
    for shape in ("linear", "exponential", "constant"):
        assert schedule.warmup(5, shape=shape, start=0.3)(0, PER_EPOCH, EPOCHS) == pytest.approx(0.3)


def test_constant_holds_and_exponential_rises_by_equal_factors() -> None:
    published = schedule.warmup("400it", then=schedule.constant(), shape="constant")
    assert [published(step, 391, 120) for step in (0, 399, 400)] == [0.1, 0.1, 1]
    run = values(schedule.warmup("25%", shape="constant", then=schedule.step(10)))
    assert run[:50] == [0.1] * 50 and run[50:150] == [1.0] * 100 and run[150:] == pytest.approx([0.1] * 51)
    rise = values(schedule.warmup(5, shape="exponential", start=0.01))[:50]
    assert rise[-1] == 1 and [b / a for a, b in itertools.pairwise(rise)] == pytest.approx([100 ** (1 / 49)] * 49)


def test_no_warmup_is_the_schedule_itself() -> None:
    assert values(schedule.warmup(0)) == values(schedule.cosine())


@given(st.integers(1, 60), st.integers(2, 30), st.sampled_from(["linear", "exponential"]), st.sampled_from([0.01, 0.5]))
def test_warmup_rises_to_one_and_stays_continuous(ramp: int, per_epoch: int, shape: str, start: float) -> None:
    curve = schedule.warmup(f"{ramp}it", shape=shape, start=start)
    run = [curve(step, per_epoch, 100) for step in range(per_epoch * 100)]
    assert all(left < right for left, right in itertools.pairwise(run[:ramp]))
    assert ramp == 1 or run[ramp - 1] == pytest.approx(1)
    assert run[ramp] == 1


@pytest.mark.parametrize("length", [20, "200it", "100%", 500])
def test_a_warmup_or_cooldown_that_leaves_nothing_is_refused(length: int | str) -> None:
    with pytest.raises(RepFoldError, match="shorten the warm-up or train longer"):
        schedule.warmup(length)(0, PER_EPOCH, EPOCHS)
    with pytest.raises(RepFoldError, match="shorten"):
        schedule.cooldown(length)(0, PER_EPOCH, EPOCHS)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"shape": "lineer"}, "Did you mean 'linear'"),
        ({"mode": "prefex"}, "Did you mean 'prefix'"),
        ({"start": 1.5}, "must lie in"),
        ({"shape": "constant", "start": 0.0}, "above 0"),
        ({"length": "5 apples"}, "not a length"),
        ({"length": -1}, "not a length"),
        ({"length": "0.5it"}, "not whole"),
    ],
)
def test_mistakes_in_a_warmup_are_told(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        schedule.warmup(**{"length": 5, **keywords})  # type: ignore[arg-type]


def test_cooldown_suffix_falls_from_the_last_rate_of_a_shortened_run() -> None:
    run = values(schedule.cooldown(5, of=schedule.cosine(end=0.2)))
    head = schedule.cosine(end=0.2)
    assert run[:150] == pytest.approx([head(step, PER_EPOCH, 15) for step in range(150)])
    assert run[150:] == pytest.approx([run[149] * (1 - step / 50) for step in range(51)])


def test_cooldown_overlap_multiplies() -> None:
    plain = values(schedule.step(10))
    run = values(schedule.cooldown("25%", of=schedule.step(10), mode="overlap"))
    assert run == pytest.approx([value * min(1.0, (STEPS - step) / 50) for step, value in enumerate(plain)])


@pytest.mark.parametrize(("shape", "middle", "end"), [("linear", 0.5, 0), ("cosine", 0.5, 0), ("sqrt", 0.29289, 0)])
def test_cooldown_shapes(shape: str, middle: float, end: float) -> None:
    run = values(schedule.cooldown(10, shape=shape))
    assert (run[100], run[150], run[200]) == pytest.approx((1, middle, end), abs=1e-5)


def test_cooldown_exponential_and_constant_end_above_zero() -> None:
    assert values(schedule.cooldown(10, shape="exponential", end=0.01))[150] == pytest.approx(0.1)
    assert values(schedule.cooldown(10, shape="constant", end=0.01))[100:] == [0.01] * 101
    assert values(schedule.cooldown(0)) == [1.0] * 201
    with pytest.raises(RepFoldError, match="above 0"):
        schedule.cooldown(10, shape="exponential", end=0)


def test_warmup_stable_decay() -> None:
    run = values(schedule.warmup_stable_decay("10%", decay=5, end=0.1))
    assert run[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert run[20:151] == [1.0] * 131
    assert run[151:] == pytest.approx([1 - 0.9 * step / 50 for step in range(1, 51)])
