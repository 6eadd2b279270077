import pytest

from repfold.report.timings import timings_of


def row(form, batch, median):
    return {"form": form, "batch": batch, "median_ms": median, "low_ms": median * 0.9, "high_ms": median * 1.2, "n": 9}


def test_speed_up_is_against_the_train_form_of_the_same_batch():
    rows = [
        row("folded", 1, 2.0),
        row("Train form, eager", 1, 5.0),
        row("Train form, eager", 8, 24.0),
        row("folded", 8, 6.0),
    ]
    timings = timings_of({"rows": rows})
    assert timings.batches() == (1, 8)
    assert [timings.speed_up(one) for one in timings.rows] == [2.5, 1.0, 1.0, 4.0]
    fastest = timings.fastest()
    assert fastest is not None and (fastest.form, fastest.batch) == ("folded", 8)
    assert fastest.images_per_second == pytest.approx(8 / 0.006)


def test_without_a_train_form_the_first_is_the_reference():
    timings = timings_of({"rows": [row("a", 1, 3.0), row("b", 1, 6.0)], "machine": "a laptop"})
    assert [timings.speed_up(one) for one in timings.rows] == [1.0, 0.5]
    assert timings.machine == {"machine": "a laptop"}


def test_one_form_alone_has_no_speed_up():
    assert timings_of({"rows": [row("a", 1, 3.0)]}).fastest() is None


@pytest.mark.parametrize("median", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(median):
    with pytest.raises(ValueError, match="not a positive number"):
        timings_of({"rows": [row("a", 1, median)]})
