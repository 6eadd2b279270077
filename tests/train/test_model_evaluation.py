"""The data that a model is evaluated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repfold.errors import RepFoldError
from repfold.models import Preprocessing
from repfold.train.model_evaluation import open_data

SEEN = Preprocessing(16, 16, (0.5,) * 3, (0.5,) * 3, 3)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((16, 16, 3), 9 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


def test_data_of_a_run_is_known_by_whatever_path(images):
    Path("run").mkdir()
    Path("run/recipe.toml").write_text('data = "images"\nper_class = [2, 1]\n')
    for path in ("images", "./images", "run/../images", str(images), None):
        assert len(open_data(Path("run"), path, SEEN).val) == 2


def test_a_model_file_knows_no_data(images):
    assert len(open_data(Path("model.safetensors"), "images", SEEN, "train").train) > 2
    with pytest.raises(RepFoldError, match="On what"):
        open_data(Path("model.safetensors"), None, SEEN)
