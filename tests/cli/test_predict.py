"""``repfold predict``: classes by name, most likely first, from whatever image files people have."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import repfold
from repfold import models
from repfold.cli import main


def brightness_model(directory, names):
    """A network whose first class wins on bright images, by a margin that can be computed by hand."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(names)))
    with torch.no_grad():
        network[2].weight.zero_()
        network[2].weight[0] = 1.0
        network[2].bias.zero_()
    description = models.Description(
        classes=names, preprocessing=models.Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    )
    repfold.save(network, directory / "best.safetensors", description=description)


@pytest.fixture
def images(tmp_path):
    for name, value in (("bright.png", 255), ("dark.png", 0)):
        Image.fromarray(np.full((10, 14, 3), value, dtype=np.uint8)).save(tmp_path / name)
    Image.fromarray(np.full((9, 9), 255, dtype=np.uint8)).save(tmp_path / "gray.jpg")
    return tmp_path


def test_probabilities_are_those_of_the_network_on_the_preprocessed_image(images, capsys):
    brightness_model(images, ("day", "night", "dusk"))
    paths = [str(images / name) for name in ("bright.png", "dark.png", "gray.jpg")]
    main(["predict", str(images), *paths, "--json"])
    predictions = json.loads(capsys.readouterr().out)["predictions"]
    assert [prediction["image"] for prediction in predictions] == paths
    day, dark, gray = ({c["class"]: c["percent"] for c in p["classes"]} for p in predictions)
    # Every channel is (1 − 0.5)/0.25 = 2 on white, −2 on black; logits are their sum for "day" and 0 else.
    assert day["day"] == pytest.approx(100 * np.exp(6) / (np.exp(6) + 2), rel=1e-5)
    assert dark["day"] == pytest.approx(100 * np.exp(-6) / (np.exp(-6) + 2), rel=1e-4)
    assert gray["day"] == pytest.approx(day["day"], rel=1e-3)
    assert predictions[0]["classes"][0]["class"] == "day" and len(day) == 3


def test_the_five_most_likely_of_many_classes_are_named(images, capsys):
    brightness_model(images, tuple(f"class {i}" for i in range(8)))
    main(["predict", str(images / "bright.png"), "--model", str(images / "best.safetensors")])
    lines = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert len(lines) == 5 and "class 0" in lines[0]


def test_classes_without_names_are_numbered(images, capsys):
    brightness_model(images, ("a", "b"))
    network = repfold.load(images)
    seen = models.read_description(images).preprocessing
    repfold.save(network, images / "unnamed.safetensors", description=models.Description(preprocessing=seen))
    main(["predict", str(images / "unnamed.safetensors"), str(images / "bright.png"), "--top", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["predictions"][0]["classes"][0]["class"] == "0"


def test_mistakes_get_one_message_that_names_the_file(images, capsys):
    brightness_model(images, ("a", "b"))
    (images / "broken.png").write_bytes(b"no image")
    repfold.save(repfold.load(images), images / "bare.safetensors")
    cases = [
        ([str(images)], "at least one image"),
        ([], "at least one image"),
        ([str(images), str(images / "gone.png")], "gone.png"),
        ([str(images), str(images / "broken.png")], "broken.png"),
        ([str(images / "bare.safetensors"), str(images / "bright.png")], "how images are to be preprocessed"),
        ([str(images / "bright.png"), str(images / "dark.png")], "bright.png"),
    ]
    for arguments, message in cases:
        with pytest.raises(SystemExit) as caught:
            main(["predict", *arguments])
        assert caught.value.code == 2 and message in capsys.readouterr().err
