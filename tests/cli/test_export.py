"""``repfold export`` and ``repfold bench``."""

from __future__ import annotations

import json

import pytest
import torch

import repfold
from repfold import models
from repfold.cli import main
from repfold.deploy import check_onnx


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    network = models.create("repvgg-pico", num_classes=3, preset="32px", in_channels=1).eval()
    description = models.Description(
        architecture=models.Architecture("repvgg-pico", 3, "32px", 1),
        preprocessing=models.Preprocessing(8, 8, (0.5,), (0.5,), 1),
    )
    repfold.save(network, tmp_path / "best.safetensors", description=description)
    return tmp_path, network


def test_a_run_directory_gets_an_onnx_that_agrees_at_any_size(run, capsys):
    directory, network = run
    main(["export", str(directory), "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert summary["output"] == str(directory / "model.onnx") and summary["error"] < 1e-5
    assert summary["free_axes"] == ["batch", "height", "width"]
    assert check_onnx(directory / "model.onnx", network, torch.rand(4, 1, 24, 16)) < 1e-5


def test_the_train_form_can_be_kept(run, tmp_path):
    directory, _ = run
    main(["export", str(directory / "best.safetensors"), "-o", str(tmp_path / "train.pt2"), "--train-form"])
    main(["export", str(directory / "best.safetensors"), "-o", str(tmp_path / "plain.pt2")])
    counts = [
        sum(str(node.target).startswith("aten.conv2d") for node in torch.export.load(tmp_path / name).graph.nodes)
        for name in ("train.pt2", "plain.pt2")
    ]
    assert counts == [14, 7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["repvgg-pico", "-o", "model.tflite"], "unknown format '.tflite'"),
        (["repvgg-pico"], "give the file with -o"),
        (["gone.safetensors"], "neither a file"),
    ],
)
def test_mistakes_get_one_message(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["export", *arguments])
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_bench_times_every_form_and_writes_its_table(run, capsys):
    directory, _ = run
    main(["bench", str(directory), "--batch", "1", "2", "--rounds", "2", "--threads", "1", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((directory / "timings.json").read_text())
    forms = ["train form, PyTorch", "folded, PyTorch", "folded, ONNX Runtime"]
    assert [(row["form"], row["batch"]) for row in printed["rows"]] == [(form, n) for n in (1, 2) for form in forms]
    main(["fold", str(directory)])
    main(["bench", str(directory / "plain.safetensors"), "--batch", "1", "--rounds", "1", "--no-onnx"])
    assert "folded, PyTorch" in capsys.readouterr().out


def test_bench_refuses_an_empty_batch(run, capsys):
    with pytest.raises(SystemExit):
        main(["bench", str(run[0]), "--batch", "0"])
    assert "sizes from 1" in capsys.readouterr().err
