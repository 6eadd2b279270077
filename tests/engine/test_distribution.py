"""What others than RepFold get: the engine as a package of its own without PyTorch, and its C interface by CMake."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tests.engine.engine_models import images, plain_network, relative_error

from repfold.engine.library import find

ROOT = Path(__file__).parent.parent.parent
# Only numpy, and what Python brings, can be imported; and both are looked for where numpy is.
ALONE = """
import sys, json
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "repfold", "safetensors"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path[:0] = [sys.argv[1]]
sys.path.append(sys.argv[2])
import numpy as np, repfold_engine
network = repfold_engine.load(sys.argv[3], threads=1)
print(json.dumps(network(np.load(sys.argv[4])).tolist()))
"""


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheels", ROOT / "packaging/wheels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_engine_alone_computes_what_it_computes_in_repfold(tmp_path, wheels):
    sources = wheels.assemble_engine(tmp_path / "engine")
    shutil.copy(find(), sources / "src/repfold_engine")
    x = images(2, 3, 16, 16)
    np.save(tmp_path / "x.npy", x)
    expected = plain_network(tmp_path / "m.safetensors", x, (8, 16))
    numpy = Path(np.__file__).parent.parent
    arguments = [sources / "src", numpy, tmp_path / "m.safetensors", tmp_path / "x.npy"]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", ALONE, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert relative_error(np.array(json.loads(done.stdout)), expected) < 1e-5


def test_what_the_engine_alone_would_lack_is_seen(tmp_path, wheels, monkeypatch):
    engine = tmp_path / "src/repfold/engine"
    engine.mkdir(parents=True)
    (engine / "face.py").write_text("from repfold import atomic\n")
    monkeypatch.setattr(wheels, "ROOT", tmp_path)
    monkeypatch.setattr(wheels, "LEAVES", ("engine/face",))
    with pytest.raises(SystemExit, match="from repfold import atomic"):
        wheels.assemble_engine(tmp_path / "out")


def test_the_two_distributions_are_of_one_version(tmp_path, wheels):
    import tomllib

    import repfold

    project = tomllib.loads((wheels.assemble_engine(tmp_path / "engine") / "pyproject.toml").read_text())["project"]
    assert project["version"] == repfold.__version__
    assert [name.split(">")[0] for name in project["dependencies"]] == ["numpy"]


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("cc")), reason="needs cmake and a C compiler")
def test_the_example_in_c(tmp_path):
    cmake = subprocess.run([sys.executable, "-m", "repfold.engine.cmake"], capture_output=True, text=True, check=True)
    where = f"-Drepfold_engine_DIR={cmake.stdout.strip()}"
    build = [["cmake", "-S", ROOT / "examples/engine", "-B", tmp_path, where], ["cmake", "--build", tmp_path]]
    for command in build:
        subprocess.run(command, check=True, capture_output=True)
    x = images(1, 3, 16, 12)
    x.tofile(tmp_path / "x.f32")
    logits = plain_network(tmp_path / "m.safetensors", x, (8, 16))

    def classify(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([tmp_path / "classify", *map(str, words)], capture_output=True, text=True)

    done = classify(tmp_path / "m.safetensors", tmp_path / "x.f32", 3, 16, 12)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"class {logits.argmax()}, logit {logits.max():.3g}"[:-1])
    assert classify(tmp_path / "absent.safetensors", tmp_path / "x.f32", 3, 16, 12).returncode == 2
    assert "cannot be read" in classify(tmp_path / "m.safetensors", tmp_path / "x.f32", 3, 99, 99).stderr
