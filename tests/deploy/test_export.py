"""Exported files: they agree with the network at any batch and size, hold their weights, and are whole."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from repfold import models
from repfold.cli import main
from repfold.deploy import EXPORTERS, check_onnx, export_onnx, export_pt2, from_pixels
from repfold.errors import RepFoldError


def pico() -> nn.Module:
    torch.manual_seed(0)
    return models.create("repvgg-pico", num_classes=3).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    network = pico()
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    return network, export_onnx(network, torch.rand(1, 3, 32, 32), path)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (5, 3, 64, 32), (2, 3, 33, 47)])
def test_onnx_agrees_at_any_batch_and_size(exported, shape):
    network, written = exported
    assert written.free_axes == ("batch", "height", "width")
    assert check_onnx(written.path, network, torch.rand(shape)) < 1e-5


def test_the_check_rejects_another_networks_weights(exported):
    _, written = exported
    torch.manual_seed(1)
    other = models.create("repvgg-pico", num_classes=3).eval()
    assert check_onnx(written.path, other, torch.rand(1, 3, 32, 32)) > 1e-3
    with pytest.raises(RepFoldError, match="answers with shape"):
        check_onnx(written.path, nn.Identity(), torch.rand(1, 3, 32, 32))


def test_onnx_keeps_its_weights_as_initializers_in_one_file(exported):
    _, written = exported
    model = onnx.load(written.path, load_external_data=False)
    assert {"head.weight", "head.bias"} <= {tensor.name for tensor in model.graph.initializer}
    assert [entry.name for entry in written.path.parent.iterdir()] == ["net.onnx"]
    (x,) = model.graph.input
    axes = [axis.dim_param or axis.dim_value for axis in x.type.tensor_type.shape.dim]
    assert (x.name, axes) == ("x", ["batch", 3, "height", "width"])


def test_pt2_loads_without_the_code_that_built_it_at_any_batch_and_size(tmp_path):
    network = pico()
    written = export_pt2(network, torch.rand(1, 3, 32, 32), tmp_path / "net.pt2")
    program = torch.export.load(written.path).module()
    for shape in [(1, 3, 32, 32), (3, 3, 40, 33), (2, 3, 8, 8)]:
        x = torch.rand(shape)
        torch.testing.assert_close(program(x), network(x))


class FixedSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.rand(3, 4, 4))

    def forward(self, x):
        return (x + self.position).mean((2, 3))


def test_a_network_of_one_image_size_keeps_its_batch_free(tmp_path):
    network = FixedSize().eval()
    written = export_pt2(network, torch.rand(1, 3, 4, 4), tmp_path / "net.pt2")
    assert written.free_axes == ("batch",)
    assert torch.export.load(written.path).module()(torch.rand(7, 3, 4, 4)).shape == (7, 3)


class OneImage(nn.Module):
    def forward(self, x):
        if len(x) != 1:
            raise ValueError("one image at a time")
        return x.mean((2, 3))


@pytest.mark.parametrize("export", [export_onnx, export_pt2])
def test_a_network_of_one_image_keeps_its_batch(tmp_path, export):
    x = torch.rand(1, 3, 4, 4)
    written = export(OneImage().eval(), x, tmp_path / "net.file")
    assert written.free_axes == () and written.error < 1e-6


class DataDependent(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_exported_leaves_no_file_and_no_noise(tmp_path, capfd):
    with pytest.raises(RepFoldError, match="DataDependent cannot be exported to") as caught:
        export_pt2(DataDependent().eval(), torch.rand(1, 3, 4, 4), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir()) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_train_mode_is_refused(tmp_path):
    with pytest.raises(RepFoldError, match="train mode"):
        export_onnx(pico().train(), torch.rand(1, 3, 32, 32), tmp_path / "net.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RepFoldError, match=r"repfold\[onnx\]"):
        export_onnx(pico(), torch.rand(1, 3, 32, 32), tmp_path / "net.onnx")
        check_onnx(tmp_path / "net.onnx", pico(), torch.rand(1, 3, 32, 32))


def test_a_file_that_is_not_onnx_is_named(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"not onnx")
    with pytest.raises(RepFoldError, match=r"cannot open .*net\.onnx"):
        check_onnx(tmp_path / "net.onnx", pico(), torch.rand(1, 3, 32, 32))


DESCRIPTION = models.Description(
    classes=("äpfel", "pears", "plums"),
    preprocessing=models.Preprocessing(16, 18, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)),
)


def test_onnx_carries_classes_and_preprocessing_also_through_a_fold(tmp_path):
    x = torch.rand(1, 3, 16, 16)
    export_onnx(pico(), x, tmp_path / "net.onnx", description=DESCRIPTION)
    main(["fold", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "plain.onnx"), "--json"])
    for file in ("net.onnx", "plain.onnx"):
        texts = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / file).metadata_props}
        assert texts["repfold.classes"] == list(DESCRIPTION.classes)
        assert texts["repfold.preprocessing"]["std"] == [0.2, 0.3, 0.25]
        assert models.open_model(tmp_path / file).description == DESCRIPTION


def test_pt2_carries_them_too(tmp_path):
    export_pt2(pico(), torch.rand(1, 3, 16, 16), tmp_path / "net.pt2", description=DESCRIPTION)
    texts = {"repfold.classes": "", "repfold.preprocessing": ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=texts)
    assert models.described(texts) == DESCRIPTION


def test_what_a_file_says_of_itself_is_not_believed_blindly():
    for text in ("[", '"a"', "[1, 2]", "[" * 100_000):
        with pytest.raises(RepFoldError, match="classes"):
            models.described({"repfold.classes": text})
    assert models.described({"classes": "somebody else's"}) == models.Description()


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_from_pixels_takes_bytes_and_answers_with_probabilities(suffix, tmp_path):
    network, path = pico(), tmp_path / f"net{suffix}"
    inside, example = from_pixels(network, DESCRIPTION.preprocessing)
    written = EXPORTERS[suffix](inside, example, path, description=DESCRIPTION)
    assert written.free_axes == ("batch", "height", "width") and written.error < 1e-4
    pixels_NHWC = np.random.default_rng(0).integers(0, 256, (3, 40, 24, 3), dtype=np.uint8)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        assert [(i.name, i.type) for i in session.get_inputs()] == [("pixels", "tensor(uint8)")]
        computed = session.run(["probabilities"], {"pixels": pixels_NHWC})[0]
    else:
        computed = torch.export.load(path).module()(torch.from_numpy(pixels_NHWC)).detach().numpy()
    mean, std = (np.array(values, np.float32) for values in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)))
    x_NCHW = torch.from_numpy(((pixels_NHWC / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())
    expected = network(x_NCHW).softmax(1).detach().numpy()
    np.testing.assert_allclose(computed, expected, atol=1e-5)


def test_from_pixels_needs_to_know_the_preprocessing():
    with pytest.raises(RepFoldError, match="preprocessed"):
        from_pixels(pico(), None)
