"""``repfold demo``: everything once. Here with fewer epochs, to be quick."""

from __future__ import annotations

import json

from repfold import engine
from repfold.cli import main
from repfold.train import recipe_file, record


def test_the_demo_trains_folds_proves_exports_times_and_reports(tmp_path, monkeypatch, capsys):
    short = recipe_file.find("digits").replace(epochs=5, threads=1)
    monkeypatch.setattr(recipe_file, "find", lambda name: short)
    out = tmp_path / "demo"
    for _ in range(2):  # again over the first
        main(["demo", "--out", str(out), "--json"])
        told = json.loads(capsys.readouterr().out)
    assert told["best"]["val_top1"] > 90
    assert {path.name for path in out.iterdir()} == set(record.ALL) - {record.SCALES, record.RULES}
    timings = json.loads((out / "timings.json").read_text())
    forms = {"train form, PyTorch", "folded, PyTorch", "folded, ONNX Runtime"}
    native = {"folded, RepFold's engine"} if engine.available() is None else set()
    assert {row["form"] for row in timings["rows"]} == forms | native
    assert json.loads((out / "certificate.json").read_text())["error"] < 1e-5
