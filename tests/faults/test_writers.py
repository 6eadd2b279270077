"""Every writer under every fault of the disk: the old file stays, byte for byte, nothing is left, and it is told."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.report.run_files import write_run
from torch import fx, nn

from repfold import deploy, models
from repfold.data.augment.sheet import write_sheet
from repfold.errors import NotWritten, RepFoldError
from repfold.fold import fold
from repfold.graph.onnx.write import write_onnx
from repfold.models import BlockScales, Scales, save_scales
from repfold.models.convert import convert
from repfold.report import write as write_report
from repfold.report.lr_plot import write_lr_plot
from repfold.train import Recipe, checkpoint, recipe_file, record

FAULTS = ("full", "torn", "failing_sync", "failing_rename")
X_NCHW = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return models.create("repvgg-pico", num_classes=3, preset="32px").eval()


@cache
def description() -> models.Description:
    return models.Description(architecture=models.Architecture("repvgg-pico", 3, "32px", 3))


@cache
def plain() -> nn.Module:
    return fold(network(), X_NCHW)[0]


@cache
def published() -> nn.Module:
    """A network that other code has names for."""
    torch.manual_seed(0)
    return models.create("repvgg-a0", num_classes=2).eval()


@cache
def scales() -> Scales:
    return Scales({"stem": BlockScales(torch.rand(400), torch.rand(400))})


def write_checkpoint(path: Path) -> None:
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    checkpoint.save(
        path, checkpoint.State(), recipe_file.to_toml(Recipe()), network(), optimizer, torch.amp.GradScaler("cpu")
    )


def write_converted(path: Path) -> None:
    source = path.parent.parent / "a0.safetensors"
    if not source.exists():
        models.save(published(), source)
    convert(source, path, to="original")


def write_page(path: Path) -> None:
    run = path.parent.parent / "run"
    if not run.exists():
        write_run(run, epochs=2)
    write_report([run], path)


def write_graph(path: Path) -> None:
    read = plain().repfold_graph
    write_onnx(read, plain().state_dict(), path)


# What writes a file, by the file's name.
WRITERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint.pt": write_checkpoint,
    "best.safetensors": lambda path: models.save(network(), path, description=description()),
    "plain.safetensors": lambda path: models.save(plain(), path, description=replace(description(), form="folded")),
    "converted.safetensors": write_converted,
    "converted.pth": write_converted,
    "scales.safetensors": lambda path: save_scales(scales(), path),
    "record.jsonl": lambda path: record.write_records(path.parent, [{"epoch": 1}]),
    "confusion.json": lambda path: record.write_confusion(path.parent, ["a", "b"], torch.eye(2)),
    "environment.json": lambda path: record.write_environment(path.parent, {}),
    "recipe.toml": lambda path: recipe_file.write(Recipe(), path),
    "report.html": write_page,
    "lr.svg": lambda path: write_lr_plot({"a": ([0.0, 1.0], [1.0, 0.5])}, path),
    "sheet.png": lambda path: write_sheet([("row", torch.zeros(2, 3, 8, 8, dtype=torch.uint8))], path),
    "graph.onnx": write_graph,
    "model.onnx": lambda path: deploy.export_onnx(network(), X_NCHW, path),
    "model.pt2": lambda path: deploy.export_pt2(network(), X_NCHW, path),
}


@pytest.fixture(scope="module")
def sizes(tmp_path_factory) -> Callable[[str], int]:
    """How large each writer's file becomes when nothing goes wrong."""
    directory = tmp_path_factory.mktemp("good") / "files"
    directory.mkdir()

    @cache
    def size(name: str) -> int:
        WRITERS[name](directory / name)
        assert [path.name for path in directory.iterdir() if path.name.startswith(".")] == []
        return (directory / name).stat().st_size

    return size


@pytest.fixture(autouse=True)
def exported_once(monkeypatch):
    """Exporting takes seconds, and is not what fails here: each program is made once, and written by every test."""
    for module, name in ((torch.onnx, "export"), (torch.export, "export")):
        monkeypatch.setattr(module, name, _once(getattr(module, name)))


_PROGRAMS: dict[str, Any] = {}


def _once(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*arguments: Any, **named: Any) -> Any:
        if make.__module__ not in _PROGRAMS:
            _PROGRAMS[make.__module__] = make(*arguments, **named)
        return _PROGRAMS[make.__module__]

    return made


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITERS)
def test_a_fault_of_the_disk_leaves_the_old_file_and_is_told(name, fault, faults, sizes, tmp_path):
    size = sizes(name)
    path = tmp_path / "files" / name
    path.parent.mkdir()
    path.write_bytes(b"the old file")
    if name.startswith(("converted", "report")):
        WRITERS[name](path)  # whose sources are made beside it, without faults
        path.write_bytes(b"the old file")
    with pytest.raises(RepFoldError) as caught, getattr(faults, fault)(size):
        WRITERS[name](path)
    assert path.read_bytes() == b"the old file"
    assert [entry.name for entry in path.parent.iterdir()] == [name]
    told = str(caught.value)
    assert str(path) in told and "\n" not in told
    assert "Make room" in told or "Choose another path" in told


def halving(write: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A writer that says that all is well and has kept half."""

    def written(*arguments: Any, **named: Any) -> None:
        write(*arguments, **named)
        target = arguments[place]
        if isinstance(target, io.BytesIO):
            target.truncate(len(target.getbuffer()) // 2)
        else:
            os.truncate(target, Path(target).stat().st_size // 2)

    return written


@pytest.mark.parametrize(
    ("name", "writer", "place"),
    [
        ("best.safetensors", "repfold.models.weights.save_file", 1),
        ("plain.safetensors", "repfold.models.weights.save_file", 1),
        ("converted.pth", "torch.save", 1),
        ("model.onnx", "torch.onnx.ONNXProgram.save", 1),
        ("model.pt2", "torch.export.save", 1),
    ],
)
def test_a_file_that_does_not_give_back_what_was_written_replaces_nothing(name, writer, place, tmp_path, monkeypatch):
    path = tmp_path / "files" / name
    path.parent.mkdir()
    path.write_bytes(b"the old file")
    module, _, attribute = writer.rpartition(".")
    holder: Any = torch.onnx.ONNXProgram if module.endswith("ONNXProgram") else __import__(module, fromlist=["x"])
    monkeypatch.setattr(holder, attribute, halving(getattr(holder, attribute), place))
    with pytest.raises(RepFoldError):
        WRITERS[name](path)
    assert path.read_bytes() == b"the old file" and [entry.name for entry in path.parent.iterdir()] == [name]


class Different(nn.Module):
    def forward(self, x):
        return network()(x) * 1.5


@pytest.mark.parametrize(("name", "module"), [("model.onnx", torch.onnx), ("model.pt2", torch.export)])
def test_an_export_that_computes_something_else_replaces_nothing(name, module, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_bytes(b"the old file")
    monkeypatch.undo()  # the programs that are made once
    export = module.export
    monkeypatch.setattr(module, "export", lambda given, *rest, **named: export(Different().eval(), *rest, **named))
    with pytest.raises(RepFoldError, match="differs from it by"):
        deploy.EXPORTERS[path.suffix](plain(), X_NCHW, path)
    assert path.read_bytes() == b"the old file" and [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_directory_in_the_place_of_a_file_is_told(tmp_path):
    (tmp_path / "best.safetensors").mkdir()
    with pytest.raises(NotWritten, match=r"best\.safetensors could not be written: Is a directory"):
        models.save(network(), tmp_path / "best.safetensors", description=description())
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(NotWritten, match="could not be written: "):
        models.save(network(), tmp_path / "file" / "best.safetensors", description=description())


def test_a_graph_of_onnx_that_computes_something_else_replaces_nothing(tmp_path):
    assert isinstance(plain(), fx.GraphModule)
    path = tmp_path / "plain.onnx"
    path.write_bytes(b"the old file")
    source = tmp_path / "source.onnx"
    write_graph(source)
    from repfold.graph.module import to_module
    from repfold.graph.onnx.read import read_onnx

    read = read_onnx(source)
    imported = to_module(
        read.graph, read.state, arguments=read.arguments, output=read.output, name="Imported", parameter_names=("x",)
    ).eval()
    deploy.write_back(imported, X_NCHW, source, tmp_path / "good.onnx")
    with torch.no_grad():
        expected = imported(X_NCHW)
    imported.forward = lambda x: expected * 1.5
    with pytest.raises(RepFoldError):
        deploy.write_back(imported, X_NCHW, source, path)
    assert path.read_bytes() == b"the old file"
