"""``repfold deploy``: the files of a served model, and which engine is named for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import repfold
from repfold import engine, models
from repfold.cli import main

# What RepFold's engine refuses and others run.
CONCATENATING = """
import torch
from torch import nn

class Concatenates(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(8, 2)

    def forward(self, x_NCHW):
        y_NCHW = self.conv(x_NCHW)
        return self.head(torch.cat([y_NCHW.relu(), y_NCHW.sigmoid()], 1).mean((2, 3)))
"""


def deployed(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((folder / "deploy.json").read_text())
    return printed


def test_the_files_compute_the_same_and_the_fastest_engine_is_named(tmp_path, capsys):
    torch.manual_seed(0)
    network = models.create("repvgg-pico", num_classes=3, preset="32px").eval()
    repfold.save(network, tmp_path / "best.safetensors")
    folder = tmp_path / "served"
    arguments = ["deploy", str(tmp_path / "best.safetensors"), "-o", str(folder), "--example", "1,3,32,32"]
    main([*arguments, "--threads", "1", "--rounds", "3", "--batch", "2", "--json"])
    said = deployed(folder, capsys)
    median = {row["form"]: row["median_ms"] for row in said["rows"]}
    words = {"repfold": "RepFold", "onnxruntime": "ONNX Runtime", "torch": "PyTorch"}
    assert words[said["engine"]] in min(median, key=median.__getitem__)
    assert (said["batch"], said["threads"], said["precision"]) == (2, 1, "fp32")
    x = torch.randn(2, 3, 32, 32)
    plain = repfold.load(folder / "plain.safetensors").eval()
    torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)
    if engine.available() is None:
        native = engine.load(folder / "plain.safetensors")(x.numpy())
        np.testing.assert_allclose(native, plain(x).detach().numpy(), rtol=1e-4, atol=1e-5)
        assert len(said["rows"]) == 3


def test_an_engine_that_cannot_run_the_network_is_left_out_with_the_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "concatenating.py").write_text(CONCATENATING)
    arguments = ["deploy", "concatenating:Concatenates", "-o", str(tmp_path / "served"), "--example", "1,3,16,16"]
    main([*arguments, "--rounds", "1", "--json"])
    said = deployed(tmp_path / "served", capsys)
    assert "repfold" in said["without"] and said["engine"] != "repfold"
    main([*arguments, "--rounds", "1"])
    text = capsys.readouterr().out
    assert "Not with repfold" in text and "images_NCHW" in text


def test_mistakes_are_told(tmp_path, capsys):
    for arguments, message in ((["repvgg-pico", "--batch", "0"], "--batch 0"), (["nothing"], "neither a file")):
        with pytest.raises(SystemExit):
            main(["deploy", *arguments, "-o", str(tmp_path / "served")])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "served").exists()
