"""The arrows between the rooms hold, nothing goes in circles, and no file hides what it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "repfold"

LEAVES = {
    *"allowance atomic counted errors limits processor published".split(),
    *"regular run_files signals specs threads toml".split(),
}
TORCH_LEAVES = LEAVES | {"modules"}
# room -> the rooms that it may import
ARROWS: dict[str, set[str]] = {
    "algebra": set(),
    "allowance": set(),
    "engine": {"allowance", "processor"},
    "counted": set(),
    "errors": set(),
    "atomic": {"errors"},
    "threads": {"allowance", "errors"},
    "signals": set(),
    "regular": set(),
    "limits": set(),
    "processor": set(),
    "published": set(),
    "run_files": {"regular"},
    "modules": {"errors"},
    "toml": {"errors"},
    "specs": {"errors"},
    "schedule": LEAVES,
    "report": LEAVES | {"schedule"},
    "grouped_norm": LEAVES,
    "general_norm": LEAVES | {"grouped_norm"},
    "norms": TORCH_LEAVES | {"general_norm", "grouped_norm"},
    "data": LEAVES,
    "graph": LEAVES,
    "fold": TORCH_LEAVES | {"algebra", "graph"},
    "blocks": TORCH_LEAVES | {"algebra", "norms"},
    "expand": TORCH_LEAVES | {"algebra", "graph", "fold", "blocks"},
    "optim": TORCH_LEAVES | {"algebra", "graph", "fold", "schedule"},
    "models": TORCH_LEAVES | {"algebra", "graph", "fold", "blocks", "expand", "norms"},
    "train": TORCH_LEAVES
    | {"algebra", "graph", "fold", "blocks", "expand", "models", "norms", "optim", "schedule", "data"},
    "study": TORCH_LEAVES | {"expand", "fold", "models", "data", "train", "report", "deploy"},
    "deploy": TORCH_LEAVES | {"algebra", "graph", "fold", "blocks", "models", "data", "engine", "report"},
}
TOP = {"cli", "__init__", "__main__"}  # may import every room
NO_TORCH = {"report", "engine", "schedule", *LEAVES}
VAGUE = {"utils", "util", "helpers", "common", "misc", "core", "base"}


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every import in a file, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            whole = [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
            found += whole if node.module == "repfold" else [(node.lineno, node.module)]
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def wrong_arrows(path: Path) -> list[str]:
    here = room(path)
    targets = [(line, name.split(".")[1]) for line, name in imports(path) if name.startswith("repfold.")]
    allowed = ARROWS[here] | {here}
    return [f"{path.relative_to(ROOT)}:{line} {here} -> {target}" for line, target in targets if target not in allowed]


FILES = sorted(path for path in ROOT.rglob("*.py") if room(path) not in TOP)


def test_every_room_is_known():
    assert {room(path) for path in FILES} <= set(ARROWS)


def test_the_arrows_hold():
    assert [arrow for path in FILES for arrow in wrong_arrows(path)] == []


def test_a_wrong_arrow_is_seen(tmp_path, monkeypatch):
    wrong = tmp_path / "algebra" / "laws.py"
    wrong.parent.mkdir()
    wrong.write_text("def f():\n    from repfold.fold import fold\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert wrong_arrows(wrong) == ["algebra/laws.py:2 algebra -> fold"]


def test_the_arrows_go_one_way():
    """No room reaches itself through others."""

    def reached(start: str, seen: set[str]) -> set[str]:
        for target in ARROWS[start] - seen:
            seen.add(target)
            reached(target, seen)
        return seen

    assert [name for name in ARROWS if name in reached(name, set())] == []


@pytest.mark.parametrize("name", sorted(NO_TORCH))
def test_rooms_without_torch(name):
    files = [path for path in FILES if room(path) == name]
    assert [f"{p}:{line}" for p in files for line, module in imports(p) if module.split(".")[0] == "torch"] == []


def test_file_names_say_what_is_in_them():
    assert [str(path) for path in ROOT.rglob("*.py") if path.stem in VAGUE] == []


def test_files_fit_in_the_head():
    assert [(str(p.relative_to(ROOT)), n) for p in ROOT.rglob("*.py") if (n := p.read_text().count("\n")) > 350] == []


def test_the_command_line_holds_no_long_function():
    """It parses, calls one library function, and prints."""
    functions = [
        (path.name, node.name, node.end_lineno - node.lineno + 1)
        for path in (ROOT / "cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [found for found in functions if found[2] > 60] == []


def test_importing_the_package_imports_no_torch():
    code = "import repfold, repfold.engine, repfold.report, repfold.schedule, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
