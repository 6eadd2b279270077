"""Runs on other data, or on other images of the same, are compared with a warning; runs on the same are not."""

from __future__ import annotations

import json

import pytest
from tests.report.run_files import write_run

from repfold.report.results import read

DATA = {"name": "photos", "classes": 10, "training_images": 900, "validation_images": 100, "fingerprint": "aa"}


def notes(tmp_path, *data):
    runs = [write_run(tmp_path / f"run{i}", epochs=2, seed=i) for i in range(len(data))]
    for run, described in zip(runs, data):
        (run / "environment.json").write_text(json.dumps({"data": described} if described else {}))
    return [note for note in read(runs).notes() if "data" in note]


@pytest.mark.parametrize("change", [{"name": "digits"}, {"classes": 9}, {"validation_images": 90}])
def test_other_data_are_warned_of(tmp_path, change):
    (note,) = notes(tmp_path, DATA, {**DATA, **change})
    assert "run0: photos, 10 classes" in note and "do not compare" in note


def test_other_images_of_the_same_data_are_told(tmp_path):
    (note,) = notes(tmp_path, DATA, {**DATA, "fingerprint": "bb"})
    assert "different training and validation images" in note


@pytest.mark.parametrize("other", [DATA, {**DATA, "fingerprint": None}, None, {"name": 3}])
def test_the_same_data_and_unknown_ones_are_not(tmp_path, other):
    assert notes(tmp_path, DATA, other) == []


def test_one_run_alone_is_compared_with_nothing(tmp_path):
    assert notes(tmp_path, DATA) == []
