"""``repfold engine info`` on a model that ``repfold.save`` wrote: the engine reads what the models room writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import repfold
from repfold import engine, models
from repfold.cli.bench import bench
from repfold.cli.engine import engine as command
from repfold.cli.model_flags import ModelFlags
from repfold.deploy.export import export_onnx
from repfold.errors import RepFoldError
from repfold.fold import fold

pytestmark = pytest.mark.skipif(engine.available() is not None, reason=str(engine.available()))

# Each with the stem that leaves a map at 32 pixels: one of a single pixel is recorded several times.
NETWORKS = {
    "repvgg-pico": "imagenet",
    "vgg-pico": "imagenet",
    "mobileone-s0": "32px",
    "resnet18": "32px",
    "resnet20-cifar": "imagenet",
    "mgnet-64": "imagenet",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = models.create("repvgg-a0", num_classes=10, preset="32px").eval()
    plain, _ = fold(network, torch.randn(1, 3, 32, 32))
    path = tmp_path_factory.mktemp("a0") / "plain.safetensors"
    repfold.save(plain, path)
    return path


def test_info_prints_every_layer(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("info", model, image_size=32, threads=2)
    text = capsys.readouterr().out
    assert "winograd" in text
    assert "direct" in text
    command("info", model.parent, image_size=32, json=True)
    plan = json.loads(capsys.readouterr().out)
    assert sum(layer["kind"] == "convolution" for layer in plan["layers"]) == 23


def test_info_of_no_model_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(RepFoldError, match="No such file"):
        command("info", tmp_path / "missing.safetensors")


@pytest.mark.parametrize("name", NETWORKS)
def test_engine_computes_what_the_folded_network_computes(name: str, tmp_path: Path) -> None:
    """Folded networks of the zoo, with statistics that are not the initial ones, against PyTorch in float64."""
    torch.manual_seed(0)
    network = models.create(name, num_classes=10, preset=NETWORKS[name])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    x = torch.randn(2, 3, 32, 32)
    plain, _ = fold(network.eval(), x)
    repfold.save(plain, tmp_path / "plain.safetensors")
    expected = plain.double()(x.double()).detach().numpy()
    got = engine.load(tmp_path / "plain.safetensors", threads=2)(x.numpy())
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


class Sorts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        y_NCHW = self.conv(x_NCHW)
        return y_NCHW.relu().sort(1)[0].mean((2, 3))


def test_engine_names_the_layer_that_it_cannot_run(tmp_path: Path) -> None:
    plain, _ = fold(Sorts().eval(), torch.randn(1, 3, 32, 32))
    repfold.save(plain, tmp_path / "plain.safetensors")
    with pytest.raises(engine.EngineError, match=r"'aten\.sort\.default'.*cannot run"):
        engine.load(tmp_path / "plain.safetensors")


def test_info_reads_onnx_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GELU(), torch.nn.BatchNorm2d(4)).eval()
    export_onnx(net, torch.randn(1, 3, 16, 16), tmp_path / "m.onnx")
    command("info", tmp_path / "m.onnx", image_size=16, threads=1, json=True)
    kinds = [layer["kind"] for layer in json.loads(capsys.readouterr().out)["layers"]]
    assert kinds[:2] == ["convolution", "affine"]  # the convolution applies the GELU


def test_bench_times_the_engine(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench(
        (str(model),),
        batch=(1,),
        rounds=2,
        onnx=False,
        engines=("repfold",),
        json=True,
        flags=ModelFlags(example="1,3,32,32"),
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["form"] for row in rows] == ["folded, PyTorch", "folded, RepFold's engine"]
