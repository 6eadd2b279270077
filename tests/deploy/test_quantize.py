"""Quantization: int8 weights a channel, ranges from the calibration images, and what it costs."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import repfold
from repfold.cli import main
from repfold.data import DataSettings, open_source
from repfold.deploy import quantize_model
from repfold.errors import RepFoldError


def test_the_command_writes_int8_weights_a_channel_and_says_what_they_cost(classifier, photos, tmp_path, capsys):
    model, path = tmp_path / "best.safetensors", tmp_path / "int8.onnx"
    repfold.save(classifier.network, model, description=classifier.description)
    main(["quantize", str(model), "--data", str(photos), "-o", str(path), "--threads", "1", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 18 and said["after"]["images"] == 18 and said["after"]["same"] >= 90
    assert said["bytes_after"] < 0.45 * said["bytes_before"]
    written = onnx.load(path)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in written.graph.node}
    kernels = [tensor for tensor in written.graph.initializer if len(tensor.dims) == 4]
    assert kernels and all(tensor.data_type == onnx.TensorProto.INT8 for tensor in kernels)
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    a_channel = [scale for name, scale in scales.items() if scale.ndim == 1 and scale.dtype == np.float32]
    assert len(a_channel) >= len(kernels)
    texts = {entry.key: entry.value for entry in written.metadata_props}
    assert json.loads(texts["repfold.classes"]) == ["flower", "ship", "temple"]


def test_settings_that_make_no_sense_are_refused(classifier, photos, tmp_path):
    source = open_source(DataSettings(photos, image_size=32, resize=36))
    loaders = [source.loader(part, 8, train=False) for part in ("train", "val")]
    with pytest.raises(RepFoldError, match="--images 0"):
        quantize_model(classifier, *loaders, tmp_path / "int8.onnx", images=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("images", [-1, 0, -(2**63) - 1, 10**9])
def test_a_number_of_images_that_makes_no_sense_is_refused(images, classifier, photos, tmp_path, capsys):
    model = tmp_path / "best.safetensors"
    repfold.save(classifier.network, model, description=classifier.description)
    with pytest.raises(SystemExit) as left:
        main(["quantize", str(model), "--data", str(photos), "-o", str(tmp_path / "q.onnx"), "--images", str(images)])
    assert left.value.code == 2 and f"--images {images}: calibrate on" in capsys.readouterr().err
