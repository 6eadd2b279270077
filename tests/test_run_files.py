"""A run directory's files are described once, completely, and as the README describes them."""

from __future__ import annotations

import re
from pathlib import Path

from repfold import run_files

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_every_name_is_described_once():
    constants = {value for name, value in vars(run_files).items() if name.isupper() and isinstance(value, str)}
    assert sorted(run_files.NAMES) == sorted(constants - {run_files.LOCK, run_files.DEMO})


def test_the_readme_names_the_files_that_every_run_has():
    table = "".join(line for line in README.splitlines(keepends=True) if line.startswith("| `"))
    named = set(re.findall(r"`([\w.]+\.(?:json|jsonl|toml|pt|safetensors|onnx|html))`", table))
    assert set(run_files.ALWAYS) <= named
