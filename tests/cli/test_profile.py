"""``repfold profile``: both forms' costs as a table and as JSON."""

from __future__ import annotations

import json

import pytest
import torch

import repfold
from repfold import models
from repfold.cli import main


def test_the_table_shows_both_forms_layer_by_layer(capsys):
    main(["profile", "repvgg-pico", "--image-size", "32", "--num-classes", "10"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "layer" and "Winograd multiplies" in lines[0]
    (stem,) = [line.split() for line in lines if line.startswith("stem.branches.conv ")]
    # 3x3 and 1x1 from 3 to 16 channels with two norms; one 3x3 with biases.
    assert stem[1:3] == ["544", "448"]
    (total,) = [line.split() for line in lines if line.startswith("total ")]
    network = models.create("repvgg-pico", num_classes=10)
    assert total[1] == f"{sum(p.numel() for p in network.parameters()) / 1000:.0f}k"
    assert lines[-1].startswith("7 regions to fold; input 1x3x32x32")


def test_json_is_one_object_that_adds_up(capsys):
    main(["profile", "repvgg-pico", "--example", "1,3,32,48", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["example"] == [1, 3, 32, 48] and content["regions"] == 7
    for form in ("train", "folded"):
        layers = [layer[form] for layer in content["layers"] if layer[form]]
        assert sum(layer["traffic"] for layer in layers) == content[form]["total"]["traffic"]
    assert content["folded"]["total"]["multiply_adds"] < content["train"]["total"]["multiply_adds"]


def test_a_trained_models_own_image_size(tmp_path, capsys):
    network = models.create("repvgg-pico", num_classes=3, in_channels=1, preset="32px")
    description = models.Description(
        architecture=models.Architecture("repvgg-pico", 3, "32px", 1),
        preprocessing=models.Preprocessing(16, 16, (0.5,), (0.5,), 1),
    )
    repfold.save(network, tmp_path / "model.safetensors", description=description)
    main(["profile", str(tmp_path / "model.safetensors"), "--json"])
    assert json.loads(capsys.readouterr().out)["example"] == [1, 1, 16, 16]
    main(["profile", str(tmp_path / "model.safetensors"), "--image-size", "24", "--json"])
    assert json.loads(capsys.readouterr().out)["example"] == [1, 1, 24, 24]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["repvgg-pico", "--image-size", "0"], "at least one pixel"),
        (["repvgg-pico", "--image-size", "32", "--example", "1,3,32,32"], "give one"),
        (["repvgg-pica"], "repvgg-pico"),
        (["repvgg-pico", "--example", "1,4,32,32"], "cannot run on the example"),
    ],
)
def test_mistakes_are_told_in_one_message(arguments, message, capsys):
    torch.manual_seed(0)
    with pytest.raises(SystemExit) as exit_:
        main(["profile", *arguments])
    captured = capsys.readouterr()
    assert exit_.value.code == 2 and message in captured.err and "Traceback" not in captured.err and not captured.out
