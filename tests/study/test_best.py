"""The best value of an axis is chosen by other seeds than those that judge it."""

import numpy as np
import pytest

from repfold.study import study_file
from repfold.study.best import at_their_best, choose
from repfold.study.comparison import Comparison
from repfold.study.results import ArmResult, Run
from repfold.study.sentences import sentence


def test_the_judged_seed_has_no_say():
    """Cell 1 is better in all seeds but one, in which cell 0 is best by far: that one seed does not choose it."""
    cells = [{0: 90.0, 1: 50.0, 2: 50.0}, {0: 60.0, 1: 61.0, 2: 62.0}]
    assert choose(cells, 1) == {0: 1, 1: 0, 2: 0}
    assert choose(cells, -1) == {0: 0, 1: 1, 2: 1}
    assert choose([{0: 1.0}, {0: 2.0}], 1) == {} == choose([{0: 1.0, 1: 1.0}, {2: 1.0, 3: 1.0}], 1)


def test_the_choice_flatters_nobody():
    """Of five rates that do not differ, the best of each arm is as good as any: its mean is the truth."""
    random = np.random.default_rng(0)
    judged, flattered = [], []
    for _ in range(400):
        values = random.normal(60, 2, (5, 6))
        cells = [dict(enumerate(row)) for row in values]
        judged.append(np.mean([cells[cell][seed] for seed, cell in choose(cells, 1).items()]))
        flattered.append(values.mean(axis=1).max())
    assert np.mean(judged) == pytest.approx(60, abs=0.15) and np.mean(flattered) > 60.5


TEXT = """
name = "x"
recipe = "digits"
seeds = [0, 1, 2]
reference = "none"
metric = "val_top1"
best_over = "lr"
[arms.none]
warmup = "0"
[arms.linear]
warmup = "2ep"
[axes]
lr = [0.1, 0.4]
[claims]
linear = "Warm-up helps"
"""
VALUES = {
    "none, lr=0.1": (60, 61, 62),
    "none, lr=0.4": (50, 51, 49),
    "linear, lr=0.1": (61, 60, 62),
    "linear, lr=0.4": (65, 67, 66),
}


def test_arms_at_their_best(tmp_path):
    study = study_file.parse(TEXT)
    arms = [
        ArmResult(
            study.arm(name),
            tuple(Run(seed, tmp_path, ({},), {}, {}, float(value)) for seed, value in enumerate(values)),
            (),
            Comparison(0),
        )
        for name, values in VALUES.items()
    ]
    none, linear = at_their_best(study, arms)
    assert (none.arm.name, linear.arm.reference) == ("none at its best lr", "none at its best lr")
    assert none.values == [60, 61, 62] and linear.values == [65, 67, 66]
    assert linear.comparison.difference == pytest.approx(5.0) and linear.holm is not None and none.arm.is_reference
    assert linear.arm.changes["mostly"] == "lr 0.4"
    # Each sentence says which of the arms that share a claim it is about.
    told = [sentence(arm, study) for arm in (*arms[2:], linear)]
    assert [line.split(":")[0] for line in told] == [
        "Warm-up helps (lr=0.1)",
        "Warm-up helps (lr=0.4)",
        "Warm-up helps (at its best lr)",
    ]
