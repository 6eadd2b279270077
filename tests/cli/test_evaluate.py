"""``repfold evaluate``: figures that can be counted by hand, on the data that is meant."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import repfold
from repfold import models, run_files
from repfold.cli import main
from repfold.train import Recipe, recipe_file


def brightness_model(path, classes=("dark", "light"), **description):
    """Says "light" of every image whose mean is above one half."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))
        network[2].bias.zero_()
    seen = models.Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    repfold.save(network, path, description=models.Description(classes=classes, preprocessing=seen, **description))


@pytest.fixture
def run(tmp_path):
    """A run on a folder: of 3 dark and 2 light validation images, one dark one is mislabelled light."""
    values = {
        "train/dark": [10, 20],
        "train/light": [240, 250],
        "val/dark": [0, 40, 80],
        "val/light": [200, 30],
    }
    for folder, pixels in values.items():
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number, value in enumerate(pixels):
            image = Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8))
            image.save(tmp_path / "data" / folder / f"{number}.png")
    directory = tmp_path / "run"
    directory.mkdir()
    brightness_model(directory / "best.safetensors")
    recipe_file.write(Recipe(data=str(tmp_path / "data"), batch=2), directory / "recipe.toml")
    return directory


def evaluated(capsys, *arguments) -> dict:
    main(["evaluate", *map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_run_is_evaluated_on_the_data_of_its_recipe(run, capsys):
    found = evaluated(capsys, run, "--batch", "2")
    assert (found["images"], found["top1"], found["top5"]) == (5, 80.0, 100.0)
    assert found["precision"] == pytest.approx((3 / 4 + 1) / 2 * 100)
    assert found["recall"] == pytest.approx((1 + 1 / 2) / 2 * 100)
    assert found["confusion"] == {"classes": ["dark", "light"], "matrix_TP": [[3, 0], [1, 1]]}
    # Each logit is ±3·(v/255 − 0.5)/0.25, so the loss of an image is log(1 + exp(−2·its own logit)).
    logits = [-3 * (v / 255 - 0.5) / 0.25 for v in (0, 40, 80)] + [3 * (v / 255 - 0.5) / 0.25 for v in (200, 30)]
    assert found["loss"] == pytest.approx(np.mean([np.log1p(np.exp(-2 * logit)) for logit in logits]), rel=1e-5)


def test_training_images_and_other_data_can_be_asked_for(run, capsys):
    assert evaluated(capsys, run, "--part", "train")["top1"] == 100.0
    data = run.parent / "data"
    file = evaluated(capsys, run / "best.safetensors", data)
    assert (file["images"], file["data"], file["form"]) == (5, "data", "train")


def test_the_folded_form_of_a_run_can_be_asked_for(run, capsys):
    brightness_model(run / "plain.safetensors", form="folded")
    assert evaluated(capsys, run, "--form", "plain")["form"] == "folded"


def test_the_table_names_what_was_evaluated(run, capsys):
    main(["evaluate", str(run)])
    printed = capsys.readouterr().out
    assert "on the val images of data, 5 images" in printed and "80.00 %" in printed


def test_mistakes_get_one_message(run, tmp_path, capsys):
    brightness_model(tmp_path / "other.safetensors", classes=("day", "night"))
    repfold.save(repfold.load(run), tmp_path / "bare.safetensors")
    data = str(tmp_path / "data")
    cases = [
        ([str(run / "best.safetensors")], "name the data too"),
        ([str(tmp_path / "other.safetensors"), data], "does not know 'dark'"),
        ([str(tmp_path / "bare.safetensors"), data], "how images are to be preprocessed"),
        ([str(run), str(tmp_path / "gone")], "gone"),
        ([str(tmp_path / "gone.safetensors"), data], "does not exist"),
        ([str(run), "--form", "plain"], "plain.safetensors"),
        ([str(run), "--batch", "0"], "--batch is 0"),
    ]
    for arguments, message in cases:
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *arguments])
        assert caught.value.code == 2 and message in capsys.readouterr().err


def test_every_class_has_its_row(run, capsys):
    found = evaluated(capsys, run)
    dark, light = found["classes"]
    assert (dark["class"], dark["images"], dark["recall"], dark["precision"]) == ("dark", 3, 100.0, 75.0)
    assert (light["class"], light["images"], light["recall"], light["taken_for"]) == ("light", 2, 50.0, 0)
    main(["evaluate", str(run)])
    printed = capsys.readouterr().out
    assert "(train form, PyTorch, fp32)" in printed and "dark (1)" in printed and "top-5" not in printed


def test_a_run_on_its_own_images_keeps_its_mistakes_and_its_report_shows_them(run, capsys):
    (run / run_files.RECORD).write_text(json.dumps({"epoch": 1, "val_top1": 80.0}) + "\n")
    assert evaluated(capsys, run, "--no-pictures")["mistakes"] is None and not (run / run_files.MISTAKES).exists()
    (run / run_files.ENVIRONMENT).write_text(json.dumps({"command": ["repfold", "train", "--no-pictures"]}))
    assert evaluated(capsys, run)["mistakes"] is None
    (run / run_files.ENVIRONMENT).unlink()
    assert evaluated(capsys, run, "--part", "train")["mistakes"] is None
    assert evaluated(capsys, run / "best.safetensors", run.parent / "data")["mistakes"] is None
    assert evaluated(capsys, run, run.parent / "data")["mistakes"] == str(run / run_files.MISTAKES)
    content = json.loads((run / run_files.MISTAKES).read_text())
    (shown,) = content["shown"]
    assert (content["wrong"], content["images"], shown["name"]) == (1, 5, "light/1.png")
    main(["report", str(run)])
    page = (run / run_files.REPORT).read_text()
    assert "light/1.png" in page and f"data:image/png;base64,{shown['picture']}" in page


def test_the_mistakes_are_the_folded_networks_with_what_spoke_for_them(run, capsys):
    plain, _ = repfold.fold(models.create("repvgg-pico", num_classes=2, preset="32px").eval(), torch.rand(1, 3, 8, 8))
    description = models.load_model(run).description
    repfold.save(plain, run / run_files.PLAIN, description=replace(description, form="folded"))
    main(["evaluate", str(run)])
    wrong = json.loads((run / run_files.MISTAKES).read_text())
    assert f"mistakes: {wrong['wrong']} of 5 images" in capsys.readouterr().out
    assert wrong["wrong"] and all(one["map"] for one in wrong["shown"])


def test_what_cannot_be_looked_at_leaves_the_figures(run, capsys):
    (run / run_files.PLAIN).write_bytes(b"torn")
    main(["evaluate", str(run)])
    printed = capsys.readouterr().out
    assert "80.00 %" in printed and "mistakes: " in printed and run_files.PLAIN in printed
