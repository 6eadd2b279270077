"""A folded network in each format computes what it did."""

from __future__ import annotations

import pytest
import torch

import repfold
from repfold import models
from repfold.deploy import FORMATS, check_onnx, write_plain


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_computes_the_same(suffix, tmp_path):
    model = models.open_model("repvgg-pico", num_classes=2)
    x = models.example_input(model, (1, 3, 32, 32))
    path = tmp_path / f"plain{suffix}"
    write_plain(models.fold_model(model, x), x, path)
    if suffix == ".onnx":
        assert check_onnx(path, model.network, x) < 1e-4
        return
    loaded = repfold.load(path) if suffix == ".safetensors" else torch.export.load(path).module()
    torch.testing.assert_close(loaded(x), model.network(x), rtol=1e-4, atol=1e-5)
