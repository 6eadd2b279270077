"""Laws that every schedule obeys, whatever its arguments: no step at 0, no jump where there is none, text and back."""

import itertools
import math
import pickle
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repfold import schedule
from repfold.errors import RepFoldError

lengths = st.one_of(
    st.integers(1, 4), st.integers(1, 40).map("{}it".format), st.integers(1, 40).map("{}%".format), st.just("1.5ep")
)
shares = st.floats(0.01, 1)
decays = st.one_of(
    st.builds(schedule.constant, shares),
    st.builds(schedule.cosine, st.floats(0, 1)),
    st.builds(schedule.step, lengths, st.floats(0.5, 1)),
    st.just(schedule.adjusted_step()),
    st.builds(schedule.exponential, st.floats(0, 1)),
    st.builds(schedule.polynomial, st.floats(0.1, 5), st.floats(0, 1)),
    st.builds(schedule.inverse_sigmoid, st.floats(-3, 0.5)),
    st.builds(
        schedule.one_cycle, st.floats(0.01, 0.99), shares, st.floats(0, 1), st.sampled_from(["cosine", "linear"])
    ),
)
warmups = st.builds(
    schedule.warmup,
    lengths,
    then=decays,
    shape=st.sampled_from(["linear", "constant", "exponential"]),
    mode=st.sampled_from(["prefix", "overlap"]),
    start=st.one_of(st.none(), shares),
)
cooldowns = st.builds(
    schedule.cooldown,
    lengths,
    of=decays,
    shape=st.sampled_from(["linear", "cosine", "sqrt", "constant", "exponential"]),
    mode=st.sampled_from(["suffix", "overlap"]),
    end=st.one_of(st.none(), shares),
)
tails = st.builds(
    schedule.step_tail,
    lengths,
    of=decays,
    rates=st.sampled_from([(1e-4,), (1e-4, 5e-5)]),
    lr=shares,
    mode=st.sampled_from(["suffix", "overlap"]),
)
anything = st.one_of(
    decays,
    warmups,
    cooldowns,
    tails,
    st.builds(schedule.restarts, lengths, st.floats(1, 2), of=decays),
    st.builds(schedule.restarts, lengths, of=decays, top=st.just((1.0, 0.5)), end=st.sampled_from([0.0, (0.1, 0.01)])),
    st.builds(schedule.warmup, lengths, then=st.one_of(cooldowns, tails)),
)


def run(curve: schedule.Schedule, per_epoch: int, epochs: int) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", schedule.ScheduleWarning)
        return [curve(step, per_epoch, epochs) for step in range(per_epoch * epochs + 1)]


@given(anything, st.integers(1, 30), st.integers(8, 70))
def test_every_step_moves_the_weights(curve: schedule.Schedule, per_epoch: int, epochs: int) -> None:
    try:
        multipliers = run(curve, per_epoch, epochs)
    except RepFoldError as error:
        # The only excuse of these ranges: parts that are told not to fit into the run.
        assert "leaves nothing" in str(error) or "below n/10" in str(error) or "close to n/10" in str(error)
        return
    assert all(0 < multiplier < math.inf for multiplier in multipliers[:-1])
    assert 0 <= multipliers[-1] < math.inf


@given(anything)
def test_text_and_back(curve: schedule.Schedule) -> None:
    again = schedule.parse(str(curve))
    assert again == curve and hash(again) == hash(curve) and str(again) == str(curve)
    assert pickle.loads(pickle.dumps(curve)) == curve


@pytest.mark.parametrize("name", sorted(schedule.SCHEDULES))
def test_every_name_parses_runs_and_prints_itself(name: str) -> None:
    curve = schedule.parse(name)
    assert schedule.parse(str(curve)) == curve
    assert str(curve).startswith(curve.name) and schedule.SCHEDULES[curve.name]() == type(curve)()
    assert run(curve, 3, 120)[0] > 0


SMOOTH = [
    "cosine",
    "polynomial",
    "exponential",
    "inverse-sigmoid",
    "one-cycle",
    "cooldown:length=60ep,of=cosine:end=0.3",
]


@pytest.mark.parametrize("text", [*SMOOTH, "warmup:length=30ep", "warmup-stable-decay:warmup=30ep,decay=30ep"])
def test_smooth_schedules_have_no_jump_and_fall_to_their_end(text: str) -> None:
    multipliers = run(schedule.parse(text), 100, 120)
    assert max(abs(a - b) for a, b in itertools.pairwise(multipliers)) < 1.5 / 1000
    top = multipliers.index(max(multipliers))
    assert all(a >= b for a, b in itertools.pairwise(multipliers[top:]))


def test_the_continuity_check_sees_a_jump() -> None:
    multipliers = run(schedule.step(), 100, 120)
    assert max(abs(a - b) for a, b in itertools.pairwise(multipliers)) > 0.5


def test_a_resumed_run_sees_the_same_rates() -> None:
    """The step is the whole state: asked in any order, by any object of the same text, the answer is the same."""
    text = "warmup:length=7it,mode=prefix,then=(restarts:first=2ep,of=(step:size=5it))"
    whole = run(schedule.parse(text), 9, 10)
    late = schedule.parse(text)
    with pytest.warns(schedule.ScheduleWarning):
        assert [late(step, 9, 10) for step in range(40, 91)] == whole[40:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "Did you mean 'cosine'"),
        ("adjusted_stp", "Did you mean 'adjusted-step'"),
        ("step:sise=3", "Did you mean 'size'"),
        ("step:30,0.1,7", "is no argument"),
        ("step:size=x", "not a length"),
        ("step:factor=x", "factor=x cannot be read as float"),
        ("adjusted-step:size=3", "It takes none"),
        ("warmup:then=(cosine", "parentheses"),
        ("warmup:then=cosinus", "Did you mean 'cosine'"),
        ("", "Unknown schedule"),
    ],
)
def test_mistakes_in_the_text_are_told(text: str, message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        schedule.parse(text)


def test_values_without_a_key_are_the_first_arguments() -> None:
    assert schedule.parse("step:30") == schedule.step(30)
    assert schedule.parse("warmup:400it,then=(step:10,0.5),mode=overlap") == schedule.warmup(
        "400it", then=schedule.step(10, 0.5), mode="overlap"
    )


def test_text_takes_the_base_rate_for_absolute_tails_and_what_is_written_wins() -> None:
    assert schedule.parse("warmup:then=sigmoid-step-tail", lr=0.5).then.lr == 0.5  # type: ignore[attr-defined]
    assert schedule.parse("step-tail:lr=0.2", lr=0.5).lr == 0.2  # type: ignore[attr-defined]


def test_landmarks() -> None:
    places = schedule.landmarks(schedule.warmup(5), 10, 20)
    assert places == {"first step": 0, "end of warm-up": 49, "middle": 100, "last step": 199}
    assert schedule.landmarks(schedule.cosine(), 10, 20) == {"first step": 0, "middle": 100, "last step": 199}


def test_a_cool_down_begins_where_a_tiny_rate_was_left():
    curve = schedule.parse("cooldown:length=1ep,of=(exponential:rate=1),mode=suffix,end=1")
    assert run(curve, 1, 40)[39] == pytest.approx(math.exp(-38))
