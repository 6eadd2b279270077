"""``repfold deploy``: what it prints, what it writes, and mistakes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import repfold
from repfold import models
from repfold.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    draw = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        (folder / "photos" / "val" / name).mkdir(parents=True)
        for number in range(3):
            pixels = draw.integers(low, low + 128, (16, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / "val" / name / f"{number}.png")
        (folder / "photos" / "train").symlink_to("val") if low == 0 else None
    torch.manual_seed(0)
    network = models.create("repvgg-pico", num_classes=2).eval()
    seen = models.Preprocessing(16, 16, (0.5,) * 3, (0.25,) * 3)
    description = models.Description(models.Architecture("repvgg-pico", 2), ("bright", "dark"), seen)
    repfold.save(network, folder / "best.safetensors", description=description)
    return folder


def arguments(place, *more: str) -> list[str]:
    model, data = str(place / "best.safetensors"), str(place / "photos")
    return ["deploy", model, "--data", data, "-o", str(place / "served"), "--rounds", "2", "--threads", "1", *more]


def test_the_fastest_is_shipped_and_the_others_are_shown_beside_it(place, capsys):
    main(arguments(place, "--engines", "onnxruntime", "ncnn", "--max-drop", "100"))
    text = capsys.readouterr().out
    for words in ("ONNX Runtime, fp32", "ncnn, bf16", "shipped", "top-1 on 6 images", "predict.py"):
        assert words in text, text
    main(arguments(place, "--engines", "onnxruntime", "--json"))
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((place / "served" / "deploy.json").read_text())
    assert [row["engine"] for row in said["rows"]] == ["onnxruntime"] and said["threads"] == 1


def test_mistakes_are_told(place, tmp_path, capsys):
    served = str(tmp_path / "served")
    model = str(place / "best.safetensors")
    for words, message in (
        ([model, "--batch", "0", "--data", str(place / "photos")], "--batch 0"),
        ([model], "name the data too"),
        ([model, "--data", str(place / "photos"), "--int8", "nowhere.onnx"], "nowhere.onnx"),
        (["repvgg-pico", "--data", str(place / "photos")], "preprocessed"),
        (["nothing"], "neither a file"),
    ):
        with pytest.raises(SystemExit):
            main(["deploy", *words, "-o", served])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "served").exists()
