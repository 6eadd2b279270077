"""What follows a training: every file, or the reason why there is none; and no other stage is held up by it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import repfold
from repfold import models, run_files
from repfold.data import in_memory
from repfold.deploy import finish_run

IMAGES = in_memory(np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1), np.uint8), np.arange(40) % 3, square=True)
DERIVED = (run_files.PLAIN, run_files.ONNX, run_files.TIMINGS, run_files.MISTAKES, run_files.REPORT)


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    network = models.create("repvgg-pico", num_classes=3, preset="32px", in_channels=1).eval()
    description = models.Description(
        classes=("a", "b", "c"),
        architecture=models.Architecture("repvgg-pico", 3, "32px", 1),
        preprocessing=models.Preprocessing(8, 8, (0.5,), (0.5,), 1),
    )
    repfold.save(network, tmp_path / run_files.BEST, description=description)
    (tmp_path / run_files.RECORD).write_text(json.dumps({"epoch": 1, "val_top1": 50.0}) + "\n")
    return tmp_path


def test_a_run_gets_all_that_is_derived_from_it(run):
    stages = []
    outcomes = finish_run(run, validation=lambda seen: IMAGES, on_stage=stages.append)
    assert stages == ["folding", "exporting", "timing", "looking at mistakes", "reporting"]
    assert [outcome.name for outcome in outcomes] == ["fold", "ONNX", "timings", "mistakes", "report"]
    assert [outcome.file for outcome in outcomes] == [run / name for name in DERIVED]
    derived = {*DERIVED, run_files.CERTIFICATE}
    assert derived == {*run_files.DERIVED} - {run_files.INT8}
    assert all((run / name).exists() for name in derived)
    assert "data:image/png" in (run / run_files.REPORT).read_text()
    assert json.loads((run / run_files.CERTIFICATE).read_text())["error"] < 1e-4


def test_stages_that_fail_say_why_and_the_others_go_on(run, monkeypatch):
    """An export that computes something else, and data that are gone."""

    def gone(seen):
        raise repfold.errors.RepFoldError("No data at 'photos'.")

    for name in (run_files.ONNX, run_files.MISTAKES):
        (run / name).write_text("of an earlier network")
    monkeypatch.setattr("repfold.deploy.export.check_onnx", lambda *_: 0.5)
    _, onnx, timings, mistakes, report = finish_run(run, validation=gone)
    assert onnx.file is None and "differs" in onnx.result and not (run / run_files.ONNX).exists()
    assert mistakes.result == "not looked at: No data at 'photos'." and not (run / run_files.MISTAKES).exists()
    assert timings.file is not None and report.file is not None


def test_a_network_that_cannot_be_folded_is_reported_on_all_the_same(run, monkeypatch):
    def refuse(*_):
        raise repfold.errors.RepFoldError("as a test")

    monkeypatch.setattr("repfold.deploy.finish.fold", refuse)
    outcome, _ = finish_run(run)
    assert outcome.result == "not folded: as a test" and outcome.file is None
    assert (run / run_files.REPORT).exists() and not (run / run_files.PLAIN).exists()
