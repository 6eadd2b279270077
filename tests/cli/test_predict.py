"""``repfold predict``: classes by name, most likely first, from whatever image files people have."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

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
    predictions = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
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
    (line,) = capsys.readouterr().out.splitlines()
    assert line.count("%") == 5 and line.startswith(f"{images / 'bright.png'}  class 0 ")


def test_classes_without_names_are_numbered(images, capsys):
    brightness_model(images, ("a", "b"))
    network = repfold.load(images)
    seen = models.read_description(images).preprocessing
    repfold.save(network, images / "unnamed.safetensors", description=models.Description(preprocessing=seen))
    main(["predict", str(images / "unnamed.safetensors"), str(images / "bright.png"), "--top", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["classes"][0]["class"] == "0"


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


@pytest.fixture
def many(images, monkeypatch):
    """A folder of two bright images and a dark one below, a broken one, and what is no image; cwd is beside it."""
    brightness_model(images, ("day", "night"))
    (images / "holiday" / "evening").mkdir(parents=True)
    for name, source in (("b.png", "bright.png"), ("a.png", "bright.png"), ("evening/c.jpg", "gray.jpg")):
        (images / "holiday" / name).write_bytes((images / source).read_bytes())
    (images / "holiday" / "notes.txt").write_text("no image")
    monkeypatch.chdir(images)
    return images / "holiday"


def outcome(capsys, *words) -> tuple[int, list[str], str]:
    try:
        main(["predict", ".", *words])
        code = 0
    except SystemExit as leaving:
        code = leaving.code
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def paths(lines):
    return [line.split("  ")[0] for line in lines]


def test_folders_patterns_and_lists_on_stdin(many, capsys, monkeypatch):
    expected = ["holiday/a.png", "holiday/b.png", "holiday/evening/c.jpg"]
    assert paths(outcome(capsys, "holiday")[1]) == expected
    assert paths(outcome(capsys, "holiday/*.png")[1]) == expected[:2]
    assert paths(outcome(capsys, "holiday/**/*.jpg")[1]) == expected[2:]
    monkeypatch.setattr("sys.stdin", io.StringIO("holiday/b.png\nholiday/evening\n\n"))
    assert paths(outcome(capsys, "dark.png", "-")[1])[:2] == ["dark.png", "holiday/b.png"]
    assert outcome(capsys, "holiday/*.gif")[0] == 2
    (many / "evening" / "c.jpg").unlink()
    assert "holds no images" in outcome(capsys, "holiday/evening")[2]


def test_broken_files_are_skipped_counted_and_in_the_exit_code(many, capsys):
    (many / "aa.png").write_bytes(b"no image")
    code, lines, said = outcome(capsys, "holiday", "gone.png")
    assert code == 2 and paths(lines) == ["holiday/a.png", "holiday/b.png", "holiday/evening/c.jpg"]
    assert "Skipped 2" in said and "holiday/aa.png" in said and "gone.png (no such file)" in said
    code, lines, _ = outcome(capsys, "holiday", "--json")
    assert code == 2 and [sorted(json.loads(line)) for line in lines][1] == ["error", "image"]
    assert [json.loads(line)["image"] for line in lines][:2] == ["holiday/a.png", "holiday/aa.png"]


def test_a_table_of_path_class_and_probability(many, capsys):
    assert outcome(capsys, "holiday", "--csv", "one.csv")[:2] == (0, ["3 images: one.csv"])
    rows = list(csv.DictReader(Path("one.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == ["holiday/a.png", "holiday/b.png", "holiday/evening/c.jpg"]
    expected = np.exp(6) / (np.exp(6) + 1)
    assert rows[0]["class"] == "day" and float(rows[0]["probability"]) == pytest.approx(expected, abs=1e-5)
    outcome(capsys, "holiday", "--csv", "two.csv", "--top", "2")
    rows = list(csv.DictReader(Path("two.csv").read_text().splitlines()))
    assert len(rows) == 6 and float(rows[0]["probability"]) + float(rows[1]["probability"]) == pytest.approx(
        1, abs=1e-5
    )


def test_a_line_does_not_wrap(many, capsys):
    brightness_model(many.parent, tuple(f"a class with a rather long name, number {i}" for i in range(9)))
    (_, lines, _) = outcome(capsys, "holiday", "--top", "9")
    assert len(lines) == 3 and all(line.count("%") == 9 for line in lines)
