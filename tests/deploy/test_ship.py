"""A shipped folder goes from picture files to names of classes, with its engine, NumPy and Pillow alone."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import repfold
from repfold import engine, models
from repfold.data import DataSettings, open_source
from repfold.deploy import Choice, deploy_model, predict
from repfold.deploy.candidates import Candidate, prepare
from repfold.deploy.provenance import Provenance
from repfold.deploy.runtimes import Material
from repfold.deploy.ship import ship
from repfold.engine.library import find
from repfold.errors import NotWritten, RepFoldError

PACKAGES = Path(np.__file__).parents[1]
# What a program in a clean place runs: the folder's own, with its probabilities as JSON; and what else is there.
CLEAN = """
import importlib.util, json, sys
sys.path[:0] = [{folder!r}, {packages!r}]
import predict
absent = [name for name in ("torch", "onnx", "scipy", "safetensors", "rich") if importlib.util.find_spec(name)]
print(json.dumps([predict.probabilities([path])[0].tolist() for path in sys.argv[1:]] + [absent]))
"""
RUN = """
import runpy, sys
sys.path.append({packages!r})
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def images(photos):
    return open_source(DataSettings(photos, image_size=32, resize=36), parts=("val",))


def deployed(classifier, images, folder: Path, *engines: str) -> Choice:
    loader = images.loader("val", 8, train=False)
    settings = {"engines": engines, "rounds": 2, "threads": 1, "max_drop": 1.0}
    return deploy_model(
        classifier, loader, folder, source=Path("runs/a"), data=images.name, licence="CC0 | free", **settings
    )


@pytest.fixture(scope="module")
def served(classifier, images, tmp_path_factory) -> tuple[Path, Choice]:
    """A folder for ONNX Runtime, and what was measured for it."""
    folder = tmp_path_factory.mktemp("shipped") / "served"
    return folder, deployed(classifier, images, folder, "onnxruntime")


@pytest.fixture(scope="module")
def folders(classifier, served, tmp_path_factory) -> dict[str, Path]:
    """A folder for each engine."""
    place = tmp_path_factory.mktemp("engines")
    x_NCHW = torch.randn(2, 3, 32, 32)
    plain = models.fold_model(classifier, x_NCHW)
    material = Material(plain, x_NCHW, served[0] / "model.onnx")
    engines = ("repfold", "openvino", "ncnn", "torch")
    candidates, without = prepare(material, place, threads=1, engines=engines)
    assert "fp32" not in " ".join(without), without
    known = Provenance("runs/a", "photos")
    return {c.engine: ship(place / f"served-{c.engine}", plain, served[1], c, known) for c in candidates[::-1]}


def clean_place(folder: Path, *packages: str) -> Path:
    """A directory of packages that holds these alone."""
    folder.mkdir()
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs", *packages):
        if (PACKAGES / name).exists():
            (folder / name).symlink_to(PACKAGES / name)
    return folder


def in_isolation(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_as_ours(rows: list[list[float]], classifier, pictures: list[str]) -> None:
    for row, path in zip(rows, pictures, strict=True):
        ours = dict(predict(path, classifier))
        expected = [ours[name] / 100 for name in classifier.description.classes]
        # Pillow resamples to within one gray level of what evaluation sees.
        np.testing.assert_allclose(row, expected, atol=0.01, err_msg=path)
    assert len({tuple(np.round(row, 2)) for row in rows}) > len(rows) / 2  # the pictures do differ


def test_the_program_needs_its_engine_numpy_and_pillow_alone(classifier, served, pictures, tmp_path):
    packages = str(clean_place(tmp_path / "packages", "onnxruntime"))
    *rows, absent = json.loads(in_isolation(CLEAN.format(folder=str(served[0]), packages=packages), *pictures))
    assert absent == []
    assert_as_ours(rows, classifier, pictures)
    lines = in_isolation(RUN.format(packages=packages), str(served[0] / "predict.py"), *pictures[:2]).splitlines()
    for line, path in zip(lines, pictures[:2], strict=True):
        best, _ = predict(path, classifier, top=1)[0]
        assert line.startswith(f"{path}  {best} ") and line.endswith("%")


def test_the_program_names_files_that_are_no_images_and_goes_on(served, pictures, tmp_path):
    torn, eps = tmp_path / "torn.jpg", tmp_path / "eps.jpg"
    torn.write_bytes(Path(pictures[0]).read_bytes()[:90])
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # would start Ghostscript
    program, absent = str(served[0] / "predict.py"), str(tmp_path / "absent.png")
    done = subprocess.run(
        [sys.executable, program, str(torn), pictures[0], str(eps), absent], capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stdout.startswith(f"{pictures[0]}  ") and done.stdout.count("\n") == 1
    lines = done.stderr.splitlines()
    for line, path in zip(lines, (torn, eps, absent), strict=True):
        assert line.startswith(f"{path}  no answer: ")


@pytest.mark.skipif(engine.available() is not None, reason="there is no native engine")
def test_our_own_engine_needs_no_pytorch(classifier, folders, pictures, tmp_path):
    packages = clean_place(tmp_path / "packages")
    shutil.copytree(Path(repfold.__file__).parent, packages / "repfold", ignore=shutil.ignore_patterns("native"))
    shutil.copy(find(), packages / "repfold" / "engine")
    code = CLEAN.format(folder=str(folders["repfold"]), packages=str(packages))
    *rows, absent = json.loads(in_isolation(code, *pictures))
    assert absent == []
    assert_as_ours(rows, classifier, pictures)


@pytest.mark.parametrize("name", ["openvino", "ncnn", "torch"])
def test_the_programs_of_other_engines_agree_too(name, classifier, folders, pictures):
    file = folders[name] / "predict.py"
    names = runpy.run_path(str(file))
    assert_as_ours([names["probabilities"]([path])[0] for path in pictures], classifier, pictures)


def test_the_folder_says_what_the_model_is(served):
    folder, _ = served
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        *("model.onnx", "predict.py", "model.json", "deploy.json", "requirements.txt", "README.md")
    }
    model = json.loads((folder / "model.json").read_text())
    assert model["classes"] == ["flower", "ship", "temple"] and model["licence"] == "CC0 | free"
    assert model["preprocessing"]["resize"] == 36 and model["certificate"]["error"] < 1e-5
    needs = (folder / "requirements.txt").read_text().split()
    assert f"onnxruntime=={onnxruntime.__version__}" in needs and len(needs) == 3
    card, measured = (folder / "README.md").read_text(), json.loads((folder / "deploy.json").read_text())
    for row in measured["rows"]:
        assert f"| {row['timing']['form']} | {row['timing']['median_ms']:.2f} |" in card
    assert f"{measured['reference']['top1']:.2f} %" in card and "CC0 \\| free" in card
    assert model["top1"] == measured["winner"]["accuracy"]["top1"]


def test_an_earlier_folder_is_replaced_and_nothing_else_is(classifier, served, folders, tmp_path):
    folder = tmp_path / "served"
    shutil.copytree(served[0], folder)
    plain = models.Model(classifier.network, classifier.description)
    openvino = Candidate("openvino", "fp32", folders["openvino"] / "model.xml", lambda x_NCHW: x_NCHW)
    ship(folder, plain, served[1], openvino, Provenance("runs/a", "photos"))
    assert not (folder / "model.onnx").exists() and (folder / "model.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "mine", tmp_path / "file"):
        with pytest.raises(RepFoldError, match="Choose"):
            ship(place, plain, served[1], openvino, Provenance("runs/a", "photos"))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_a_folder_that_cannot_be_written_leaves_the_earlier_one(classifier, served, tmp_path):
    folder = tmp_path / "served"
    shutil.copytree(served[0], folder)
    lost = Candidate("openvino", "fp32", tmp_path / "nowhere.xml", lambda x_NCHW: x_NCHW)
    with pytest.raises(NotWritten):
        ship(folder, classifier, served[1], lost, Provenance("runs/a", "photos"))
    assert (folder / "model.onnx").exists() and [path.name for path in tmp_path.iterdir()] == ["served"]


def test_pictures_differ_from_what_evaluation_sees_by_one_gray_level(classifier, served, pictures):
    names = runpy.run_path(str(served[0] / "predict.py"))
    for path in pictures:
        ours = repfold.data.preprocess(path, classifier.description.preprocessing).permute(1, 2, 0).numpy()
        assert np.abs(names["pixels"](path).astype(int) - ours).max() <= 1, path
