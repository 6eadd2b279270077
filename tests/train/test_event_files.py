"""The event files say what the record says, read by TensorBoard itself, also after a run has gone on."""

from __future__ import annotations

import json
import sys
import time

import pytest

from repfold import run_files
from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.train import EventFiles, train
from repfold.train.events import EpochDone, Started

SMALL = ["--model", "repvgg-pico", "--preset", "32px", "--per-class", "20", "5", "--batch", "32", "--threads", "1"]


@pytest.fixture
def scalars():
    """Return a reader of a run's scalars: tag -> [(epoch, value, wall time)]."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(directory):
        events = accumulator.EventAccumulator(str(directory)).Reload()
        return {tag: [(e.step, e.value, e.wall_time) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    return read


def recorded(directory):
    return [json.loads(line) for line in (directory / run_files.RECORD).read_text().splitlines()]


def check(found, records):
    for tag, name in (("train/loss", "train_loss"), ("val/top1", "val_top1"), ("lr", "lr")):
        assert [epoch for epoch, _, _ in found[tag]] == [record["epoch"] for record in records]
        assert [value for _, value, _ in found[tag]] == pytest.approx([record[name] for record in records])
    assert len(found) == len(records[0]) - 1  # all of it, but the epoch itself


def test_tensorboard_reads_what_was_recorded_and_one_course_of_a_run_that_goes_on(tmp_path, scalars, capsys):
    run = tmp_path / "run"
    main(["train", "digits", *SMALL, "--epochs", "2", "--no-finish", "--tensorboard", "--out", str(run)])
    check(scalars(run), recorded(run))
    goes_on = ["train", "--resume", "--override", "--epochs", "3", "--out", str(run), "--no-finish"]
    main(goes_on)  # not asked again: they are there
    assert len(recorded(run)) == 3 and len(list(run.glob("events.out.tfevents.*"))) == 2
    check(scalars(run), recorded(run))


def test_a_run_that_goes_on_can_begin_them_and_they_know_how_long_its_epochs_took(recipe, tmp_path, scalars):
    train(recipe, tmp_path)
    with EventFiles(tmp_path) as files:
        files(Started({}, epoch=2, epochs=2, step=0, steps=6, classes=10))
    found, records = scalars(tmp_path), recorded(tmp_path)
    check(found, records)
    (_, _, first), (_, _, second) = found["lr"]
    assert second - first == pytest.approx(records[1]["seconds"], abs=1e-3)
    assert time.time() - 60 < second < time.time()


def test_an_epoch_that_was_recorded_and_not_written_is_made_up_for(recipe, tmp_path, scalars):
    listened = []
    train(recipe, tmp_path, on_event=listened.append)
    started, *done = [event for event in listened if isinstance(event, (Started, EpochDone))]
    whole = (tmp_path / run_files.RECORD).read_text()
    (tmp_path / run_files.RECORD).write_text("")
    with EventFiles(tmp_path) as files:  # killed after the first epoch
        files(started)
        files(done[0])
    (tmp_path / run_files.RECORD).write_text(whole)
    with EventFiles(tmp_path) as files:
        files(started)
    check(scalars(tmp_path), recorded(tmp_path))


def test_without_the_package_the_error_names_the_extra_and_a_run_with_event_files_goes_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RepFoldError, match=r"pip install 'repfold\[tensorboard\]'"):
        EventFiles(tmp_path)
    train_it = ["train", "digits", *SMALL, "--epochs", "1", "--no-finish", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as refused:
        main([*train_it, "--tensorboard"])
    assert refused.value.code == 2 and "repfold[tensorboard]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.out.tfevents.1.here.2.0").touch()
    main(train_it)
    assert "do not go on" in capsys.readouterr().err and len(recorded(tmp_path / "run")) == 1
