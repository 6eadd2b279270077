"""Predicting and evaluating with any file that was written, against PyTorch on the same images."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
import torch

from repfold import models, run_files
from repfold.cli import main
from repfold.deploy import export_onnx
from repfold.deploy.export import export_pt2
from repfold.fold import fold
from repfold.train import Recipe, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch on digits, folded, exported, and its own files moved where nothing lies beside them."""
    folder = tmp_path_factory.mktemp("artefacts")
    recipe = Recipe(
        data="digits", per_class=(30, 10), model="repvgg-pico", preset="32px", epochs=1, batch=50, device="cpu"
    )
    train(recipe.replace(device="cpu"), folder / "run")
    trained = models.load_model(folder / "run")
    x = models.example_input(trained)
    plain, _ = fold(trained.network, x)
    description = replace(trained.description, form="folded")
    models.save(plain, folder / "run" / run_files.PLAIN, description=description)
    export_onnx(plain, x, folder / "run" / run_files.ONNX, description=description)
    (folder / "alone").mkdir()
    (folder / "alone" / "model.onnx").write_bytes((folder / "run" / run_files.ONNX).read_bytes())
    (folder / "alone" / "model.safetensors").write_bytes((folder / "run" / run_files.PLAIN).read_bytes())
    export_pt2(plain, x, folder / "alone" / "model.pt2", description=description)
    return folder


def evaluated(capsys, *words) -> dict:
    main(["evaluate", *map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("file", "flags", "computes"),
    [
        ("run", ["--form", "plain"], "PyTorch, fp32"),
        ("run", ["--engine", "onnxruntime"], "ONNX Runtime, fp32"),
        ("run", ["--engine", "repfold"], "RepFold, fp32"),
        ("alone/model.onnx", [], "ONNX Runtime, fp32"),
        ("alone/model.pt2", [], "PyTorch, fp32"),
        ("alone/model.safetensors", ["--engine", "repfold"], "RepFold, fp32"),
        ("alone/model.onnx", ["--engine", "openvino"], "OpenVINO, fp32"),
    ],
)
def test_every_file_is_evaluated_to_the_same_figures(run, capsys, file, flags, computes):
    if computes.startswith("OpenVINO") and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    expected = evaluated(capsys, run / "run")
    data = [] if file == "run" else ["digits"]
    found = evaluated(capsys, run / file, *data, *flags)
    if file != "run":  # all validation images, and not those of the recipe
        expected = evaluated(capsys, run / "run" / "plain.safetensors", "digits")
    assert found["computes"] == computes
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert (found["top1"], found["confusion"]) == (expected["top1"], expected["confusion"])


def test_a_quantized_file_says_int8_and_bf16_is_bf16(run, capsys):
    int8 = run / "alone" / "int8.onnx"
    main(["quantize", str(run / "run"), "--data", "digits", "-o", str(int8), "--json"])
    capsys.readouterr()
    found = evaluated(capsys, int8, "digits")
    assert found["computes"] == "ONNX Runtime, int8"
    exact = evaluated(capsys, run / "run" / "plain.safetensors", "digits")
    rounded = evaluated(capsys, run / "run" / "plain.safetensors", "digits", "--precision", "bf16")
    assert rounded["computes"] == "PyTorch, bf16" and 0 < abs(rounded["loss"] - exact["loss"]) < 0.1
    assert 0 < abs(found["loss"] - exact["loss"]) < 0.5


def test_images_are_predicted_with_any_file(run, capsys, tmp_path):
    from PIL import Image

    Image.effect_noise((8, 8), 100).save(tmp_path / "noise.png")
    lines = []
    for model in ("run", "alone/model.onnx", "alone/model.pt2"):
        main(["predict", str(run / model), str(tmp_path / "noise.png"), "--json", "--top", "10"])
        lines.append({c["class"]: c["percent"] for c in json.loads(capsys.readouterr().out)["classes"]})
    assert all(line == pytest.approx(lines[0], rel=1e-3, abs=1e-4) for line in lines)


def test_mistakes_are_told(run, capsys, tmp_path):
    (tmp_path / "torn.onnx").write_bytes(b"no model")
    torch.save({}, tmp_path / "weights.pth")
    cases = [
        ([tmp_path / "torn.onnx", "digits"], "ONNX Runtime cannot open"),
        ([tmp_path / "weights.pth", "digits"], "No engine reads"),
        ([tmp_path / "gone.onnx", "digits"], "does not exist"),
        ([run / "run", "--engine", "ncnn"], "holds no file for it"),
        ([run / "alone" / "model.onnx"], "name the data too"),
        ([run / "alone" / "model.onnx", "digits", "--precision", "bf16"], "not in bf16"),
    ]
    for words, message in cases:
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *map(str, words)])
        said = capsys.readouterr().err
        assert caught.value.code == 2 and (message in said or "is not installed" in said), said
