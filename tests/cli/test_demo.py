"""``repfold demo``: everything once. Here with fewer epochs, to be quick."""

from __future__ import annotations

import json

import pytest

from repfold import engine, run_files
from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.train import recipe_file


def test_the_demo_trains_folds_proves_exports_times_and_reports(tmp_path, monkeypatch, capsys):
    short = recipe_file.find("digits").replace(epochs=5, threads=1)
    monkeypatch.setattr(recipe_file, "find", lambda name: short)
    out = tmp_path / "demo"
    main(["demo", "--out", str(out), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["best"]["val_top1"] > 90
    files = {*run_files.ALWAYS, run_files.PREVIOUS_CHECKPOINT, run_files.PREVIOUS_BEST}
    files |= {run_files.DEMO, run_files.MISTAKES}
    assert {path.name for path in out.iterdir()} == files
    assert "an earlier demo" in refusal(capsys, "--out", str(out))
    assert {path.name for path in out.iterdir()} == files
    timings = json.loads((out / "timings.json").read_text())
    forms = {"train form, PyTorch", "folded, PyTorch", "folded, ONNX Runtime"}
    native = {"folded, RepFold's engine"} if engine.available() is None else set()
    assert {row["form"] for row in timings["rows"]} == forms | native
    assert json.loads((out / "certificate.json").read_text())["error"] < 1e-5

    def fail(*arguments):
        raise RepFoldError("no training: as a test")

    monkeypatch.setattr("repfold.cli.train_and_finish.train_with_display", fail)
    assert "as a test" in refusal(capsys, "--out", str(out), "--overwrite")
    assert {path.name for path in out.iterdir()} == {run_files.DEMO}, "all of the earlier demo is gone"


def refusal(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["demo", *arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_a_demo_deletes_nothing_that_is_not_its_own(tmp_path, capsys):
    for name in (run_files.RECORD, run_files.BEST):
        (tmp_path / name).write_text("a run of weeks")
    for overwrite in ([], ["--overwrite"]):
        message = refusal(capsys, "--out", str(tmp_path), *overwrite)
        assert "holds a run that is no demo (record.jsonl)" in message
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        run_files.RECORD: "a run of weeks",
        run_files.BEST: "a run of weeks",
    }
