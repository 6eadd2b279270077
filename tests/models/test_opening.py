"""What opens as a model, the input made for it, and its folded form."""

from __future__ import annotations

import pytest
import torch

import repfold
from repfold import models
from repfold.errors import RepFoldError


@pytest.fixture
def path(tmp_path):
    network = models.create("repvgg-pico", num_classes=3, in_channels=1, preset="32px").bfloat16().eval()
    description = models.Description(
        architecture=models.Architecture("repvgg-pico", 3, "32px", 1),
        preprocessing=models.Preprocessing(8, 10, (0.5,), (0.5,), 1),
    )
    repfold.save(network, tmp_path / "model.safetensors", description=description)
    return tmp_path / "model.safetensors"


def test_an_example_is_as_the_model_sees_images_and_always_the_same(path):
    x_NCHW = models.example_input(models.open_model(path))
    assert x_NCHW.shape == (1, 1, 8, 8) and x_NCHW.dtype is torch.bfloat16
    assert torch.equal(x_NCHW, models.example_input(models.open_model(path)))
    named = models.open_model("repvgg-pico")
    assert models.example_input(named).shape == (1, 3, 224, 224)
    assert models.example_input(named, (2, 3, 9, 7)).shape == (2, 3, 9, 7)


@pytest.mark.parametrize(("shape", "message"), [((1, 3, 0, 4), "at least 1"), ((1, 3, 10**8, 10**8), "more memory")])
def test_examples_without_values_or_beyond_memory_are_refused(shape, message):
    with pytest.raises(RepFoldError, match=message):
        models.example_input(models.open_model("repvgg-pico"), shape)


def test_folding_a_folded_model_is_nothing(path):
    model = models.open_model(path)
    x_NCHW = models.example_input(model)
    plain = models.fold_model(model, x_NCHW)
    assert plain.description.form == "folded" and plain.description.preprocessing == model.description.preprocessing
    assert models.fold_model(plain, x_NCHW) is plain


def test_what_is_no_model_is_told(path):
    with pytest.raises(RepFoldError, match="Did you mean 'repvgg-pico'"):
        models.open_model("repvgg-pica")
    with pytest.raises(RepFoldError, match="brings its weights"):
        models.open_model(path, num_classes=3)
