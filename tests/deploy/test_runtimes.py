"""Every runtime makes its file of a folded network, opens it, and computes what the network does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repfold import models
from repfold.deploy import export_onnx, open_artefact
from repfold.deploy.runtimes import RUNTIMES, Material, runtime_of
from repfold.errors import RepFoldError


@pytest.fixture(scope="module")
def material(classifier, tmp_path_factory) -> Material:
    x_NCHW = torch.randn(2, 3, 32, 32)
    plain = models.fold_model(classifier, x_NCHW)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(plain.network, x_NCHW, path, description=plain.description)
    return Material(plain, x_NCHW, path)


@pytest.mark.parametrize("name", [name for name in RUNTIMES if name != "torch.compile"])
def test_files_of_every_runtime_compute_the_same(name, material, tmp_path):
    runtime = RUNTIMES[name]
    assert runtime.missing() is None
    path = tmp_path / f"model{runtime.suffix}"
    runtime.write(material, "fp32", path)
    assert {entry.suffix for entry in tmp_path.iterdir()} == {runtime.suffix, *runtime.others}
    assert runtime_of(path) is runtime
    x_NCHW = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    expected = material.plain.network(torch.from_numpy(x_NCHW)).detach().numpy()
    computed = open_artefact(path, threads=1)(x_NCHW)
    np.testing.assert_allclose(computed, expected, atol=2e-5 * np.abs(expected).max())


def test_a_runtime_that_is_absent_says_what_to_install(material, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RepFoldError, match="pip install 'repfold\\[onnx\\]'"):
        open_artefact(material.onnx)


def test_what_no_runtime_reads_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no such thing")
    for path, message in ((tmp_path / "model.onnx", "cannot open"), (tmp_path / "model.tflite", "No engine reads")):
        with pytest.raises(RepFoldError, match=message):
            open_artefact(path)


def test_what_openvino_says_is_passed_on(tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "torn.xml").write_bytes(b"no such thing")
    with pytest.raises(RepFoldError, match=r"OpenVINO cannot open .*: Unable to read the model"):
        open_artefact(tmp_path / "torn.xml")
