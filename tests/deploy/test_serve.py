"""The files of a served model, and the engine that is chosen for them."""

from __future__ import annotations

import json

import pytest
import torch

import repfold
from repfold import models
from repfold.deploy import deploy_model
from repfold.errors import RepFoldError


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.open_model("repvgg-pico", num_classes=3)


def test_the_choice_is_written_beside_the_files_and_its_program_runs(model, tmp_path):
    x_NCHW = models.example_input(model, (1, 3, 32, 32))
    serving = deploy_model(model, x_NCHW, tmp_path / "served", batch=2, threads=1, rounds=2)
    assert json.loads((tmp_path / "served" / "deploy.json").read_text()) == json.loads(json.dumps(serving.to_dict()))
    fastest = min(serving.timings.rows, key=lambda row: row.median_ms)
    assert {"repfold": "RepFold", "onnxruntime": "ONNX", "torch": "PyTorch"}[serving.engine] in fastest.form
    names = {"images_NCHW": x_NCHW if serving.engine == "torch" else x_NCHW.numpy()}
    exec(serving.program(tmp_path / "served"), names)
    torch.testing.assert_close(torch.as_tensor(names["logits"]), model.network(x_NCHW), rtol=1e-4, atol=1e-5)


def test_an_engine_that_computes_something_else_is_left_out(model, tmp_path, monkeypatch):
    monkeypatch.setattr("repfold.deploy.export.check_onnx", lambda *_: 0.5)
    monkeypatch.setattr("repfold.deploy.compare.NATIVE_TOLERANCE", {"fp32": 0.0})
    serving = deploy_model(model, models.example_input(model, (1, 3, 32, 32)), tmp_path, rounds=1)
    assert serving.engine == "torch" and set(serving.without) == {"repfold", "onnxruntime"}
    assert "differs" in serving.without["onnxruntime"] and not (tmp_path / "model.onnx").exists()
    assert repfold.load(tmp_path, form="plain")


def test_sizes_that_nobody_serves_are_refused_before_anything_is_written(model, tmp_path):
    x_NCHW = models.example_input(model, (1, 3, 32, 32))
    for settings in ({"batch": 0}, {"batch": 10**6}, {"threads": 0}, {"threads": 10**6}):
        with pytest.raises(RepFoldError):
            deploy_model(model, x_NCHW, tmp_path / "served", **settings)
    assert not (tmp_path / "served").exists()
