"""The notebook runs from its first cell to its last, and is kept without what it printed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "first-steps.ipynb"


@pytest.mark.guides
def test_every_cell_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    done = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [output.get("text", "") for cell in done.cells for output in cell.get("outputs", [])]
    assert any("regions folded" in text for text in printed)
    assert any("ONNX Runtime agrees" in text for text in printed)
    shown = [output["data"] for cell in done.cells for output in cell.get("outputs", []) if "data" in output]
    assert "data:image/png" in shown[-1]["text/html"]


def test_it_is_kept_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
