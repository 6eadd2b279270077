"""The record of mistakes: which images, in which order, and that the pictures are those images."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import repfold
from repfold import models, run_files
from repfold.data import DataSettings, in_memory, open_source
from repfold.deploy.mistakes import SHOWN, answers_of, write_mistakes
from repfold.errors import RepFoldError

SEEN = models.Preprocessing(8, 8, (0.0,), (1.0,), 1)
DESCRIPTION = models.Description(preprocessing=SEEN, classes=("dark", "bright", "other"))


class Brightness(nn.Module):
    """Says "bright" by the mean of the picture, and nothing else: what it takes for what is known."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.conv.weight.data.fill_(1.0)
        self.conv.bias.data.fill_(0.0)

    def forward(self, x):
        mean = self.conv(x).relu().mean((2, 3))
        return torch.cat([8 * (0.5 - mean), 8 * (mean - 0.5), 0 * mean - 9], 1)


def images_of(levels, labels):
    pixels = np.stack([np.full((8, 8, 1), level, np.uint8) for level in levels])
    return in_memory(pixels, np.array(labels), square=True)


def folded():
    plain, _ = repfold.fold(Brightness().eval(), torch.rand(1, 1, 8, 8))
    return plain


def test_the_worst_stand_first_and_carry_their_pictures(tmp_path):
    levels, labels = [0, 255, 250, 140, 20, 200], [0, 0, 0, 0, 1, 1]
    assert write_mistakes(tmp_path, folded(), DESCRIPTION, images_of(levels, labels)) == (4, 6)
    content = json.loads((tmp_path / run_files.MISTAKES).read_text())
    shown = content["shown"]
    assert [one["name"] for one in shown] == ["image 1", "image 2", "image 4", "image 3"]
    assert content["worst"] == content["most_confident"] == [0, 1, 2, 3]
    mean = 255 / 255
    expected = torch.softmax(torch.tensor([8 * (0.5 - mean), 8 * (mean - 0.5), -9.0], dtype=torch.float64), 0)
    assert shown[0]["true_probability"] == pytest.approx(float(expected[0]), abs=1e-6)
    assert shown[0]["probability"] == pytest.approx(float(expected[1]), abs=1e-6)
    assert [(one["true"], one["predicted"]) for one in shown] == [(0, 1), (0, 1), (1, 0), (0, 1)]
    for one, level in zip(shown, (255, 250, 20, 140)):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["picture"]))))
        assert pixels.shape == (8, 8) and (pixels == level).all()
        assert Image.open(io.BytesIO(base64.b64decode(one["map"]))).mode == "RGBA"


def test_the_two_orders_differ_where_there_are_more_than_two_classes():
    class Fixed(nn.Module):
        def forward(self, x):
            rows = torch.tensor([[0.30, 0.60, 0.10], [0.24, 0.50, 0.26], [0.02, 0.49, 0.49 - 1e-6]])
            return rows[x[:, 0, 0, 0].mul(255).round().long()].log()

    answers = answers_of(Fixed(), images_of([0, 1, 2], [0, 0, 0]), SEEN)
    assert answers.worst(3) == [2, 1, 0]
    assert answers.most_confident(3) == [0, 1, 2]


def test_many_mistakes_make_a_small_record(tmp_path):
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (300, 224, 224, 3), dtype=np.uint8)
    seen = models.Preprocessing(224, 224, (0.5,) * 3, (0.5,) * 3, 3)

    class First(nn.Module):
        def forward(self, x):
            return torch.cat([x.new_ones(len(x), 1), x.new_zeros(len(x), 2)], 1)

    description = models.Description(preprocessing=seen, classes=("a", "b", "c"))
    images = in_memory(pixels, np.ones(300, int), square=True)
    assert write_mistakes(tmp_path, First(), description, images) == (300, 300)
    content = json.loads((tmp_path / run_files.MISTAKES).read_text())
    assert len(content["shown"]) <= 2 * SHOWN and content["shown"][0]["map"] is None
    assert (tmp_path / run_files.MISTAKES).stat().st_size < 400_000  # of noise, which is the worst to compress


def test_files_are_named_as_in_the_folder(tmp_path):
    for name, level in (("dark", 10), ("bright", 20)):
        for part in ("train", "val"):
            path = tmp_path / "data" / part / name / "one.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(path)
    source = open_source(DataSettings(tmp_path / "data", image_size=8), parts=("val",))
    assert [source.val.name(index) for index in range(2)] == ["bright/one.png", "dark/one.png"]
    assert source.val.subset([1]).name(0) == "dark/one.png"


def test_a_network_of_fewer_classes_is_told(tmp_path):
    with pytest.raises(RepFoldError, match="fewer classes"):
        write_mistakes(tmp_path, folded(), DESCRIPTION, images_of([0], [3]))
    assert not (tmp_path / run_files.MISTAKES).exists()
