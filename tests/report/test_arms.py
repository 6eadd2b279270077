import numpy as np
import pytest
from tests.report.run_files import write_run

from repfold.report.arms import curve, differing_keys, group, seed_notes, spread
from repfold.report.records import read_runs


def arms_of(tmp_path, *settings):
    paths = [write_run(tmp_path / name, epochs=epochs, **more) for name, epochs, more in settings]
    return group(read_runs(paths))


def test_runs_that_differ_in_the_seed_alone_are_one_arm(tmp_path):
    settings = [
        (f"{name}-s{seed}", 3, {"seed": seed, "warmup": w}) for seed in (0, 1) for name, w in (("c", 0), ("w", 5))
    ]
    arms = arms_of(tmp_path, *settings)
    assert [arm.label for arm in arms] == ["c", "w"]
    assert [[run.name for run in arm.runs] for arm in arms] == [["c-s0", "c-s1"], ["w-s0", "w-s1"]]
    assert [arm.style for arm in arms] == [0, 1]
    assert arms[0].title == "c (n = 2)"


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("cosine-s0", "cosine-s1"), "cosine"),
        (("cosine_seed1", "cosine_seed2"), "cosine"),
        (("cosine/seed-0", "cosine/seed-1"), "cosine"),
        (("step-lr-10", "step-lr-11"), "step-lr"),
        (("resnet18-0", "resnet18-1"), "resnet18"),
        (("seed-0", "seed-1"), "all runs"),
    ],
)
def test_an_arm_is_called_by_what_its_runs_share(tmp_path, names, label):
    paths = [write_run(tmp_path / name, epochs=1, seed=seed) for seed, name in enumerate(names)]
    runs = read_runs(paths)
    if "/" in names[0]:
        from dataclasses import replace

        runs = tuple(replace(run, name=name) for run, name in zip(runs, names, strict=True))
    assert [arm.label for arm in group(runs)] == [label]


def test_arms_whose_names_say_nothing_are_called_by_their_recipes(tmp_path):
    settings = [
        (f"{letter}{seed}", 1, {"seed": seed, "warmup": w}) for letter, w in (("", 0), ("1", 5)) for seed in (2, 3)
    ]
    assert [arm.label for arm in arms_of(tmp_path, *settings)] == ["warmup 0ep", "warmup 5ep"]


def test_a_run_without_a_recipe_joins_no_arm(tmp_path):
    arms = arms_of(tmp_path, ("a", 1, {"without": ("recipe.toml",)}), ("b", 1, {"without": ("recipe.toml",)}))
    assert [arm.n for arm in arms] == [1, 1]


def test_the_curve_of_an_arm_is_mean_and_range_over_its_runs(tmp_path):
    (arm,) = arms_of(tmp_path, *((f"s{seed}", 5, {"seed": seed}) for seed in range(4)))
    values = np.array([[record["val_top1"] for record in run.epochs] for run in arm.runs])
    found = curve(arm, "val_top1")
    assert found.epochs == (1, 2, 3, 4, 5)
    np.testing.assert_allclose(found.mean, values.mean(axis=0))
    np.testing.assert_allclose(found.low, values.min(axis=0))
    np.testing.assert_allclose(found.high, values.max(axis=0))


def test_a_curve_goes_on_where_only_some_runs_have_a_value(tmp_path):
    (arm,) = arms_of(tmp_path, ("s0", 3, {}), ("s1", 3, {"seed": 1, "recorded": 2}))
    third = arm.runs[0].epochs[2]["val_loss"]
    found = curve(arm, "val_loss")
    assert (found.mean[2], found.low[2], found.high[2]) == (third, third, third)
    assert curve(arm, "nothing").mean == (None, None, None)


def test_spread_is_the_sample_standard_deviation():
    found = spread([{"a": 1.0}, {"a": 2.0}, {"a": 4.0}, {"a": float("nan")}, {}], "a")
    assert found is not None and found.n == 3
    assert found.mean == pytest.approx(7 / 3)
    assert found.deviation == pytest.approx(np.std([1, 2, 4], ddof=1))
    alone = spread([{"a": 1.0}], "a")
    assert alone is not None and alone.deviation is None
    assert spread([{}], "a") is None


def test_runs_of_one_seed_are_not_called_independent(tmp_path):
    arms = arms_of(tmp_path, ("a", 1, {"seed": 3}), ("b", 1, {"seed": 3}))
    assert len(seed_notes(arms)) == 1
    assert seed_notes(arms_of(tmp_path / "more", ("a", 1, {"seed": 3}), ("b", 1, {"seed": 4}))) == ()


def test_differing_keys_keep_their_order_and_tell_absence_from_a_value():
    assert differing_keys([{"b": 1, "a": 2, "c": [1]}, {"b": 2, "a": 2, "c": [1], "d": None}]) == ("b",)
    assert differing_keys([{"b": 1}, {"b": 1, "d": 0}]) == ("d",)
