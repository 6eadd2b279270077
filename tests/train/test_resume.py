"""A run that was killed or stopped, wherever it was, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.signals import KNOWN
from repfold.train import Recipe, Stopped, checkpoint, recipe_file, replay, train
from repfold.train.events import EpochDone, Note, Started, Stepped

# What differs from run to run: how long things took.
TIMES = {"images_per_second", "waiting_share", "seconds"}

# Trains, and kills itself at the named place: after a step, in the midst of writing a checkpoint, or between the record
# of an epoch and its checkpoint.
KILLED = """
import os, signal, sys
import torch
from repfold.train import checkpoint, recipe_file, train
from repfold.train.events import Stepped

directory, place = sys.argv[1], sys.argv[2]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
saved, count = torch.save, 0

def save(content, path):
    global count
    count += 1
    saved(content, path)
    if place == "writing" and count == 3:
        os.truncate(path, os.path.getsize(path) // 2)
        die()

def listen(event):
    if place == "step" and isinstance(event, Stepped) and (event.epoch, event.step) == (1, 3):
        die()

torch.save = save
if place == "epoch":
    save_checkpoint = checkpoint.save
    checkpoint.save = lambda path, state, *rest, **more: (
        die() if state.epoch == 1 else save_checkpoint(path, state, *rest, **more)
    )
train(recipe_file.read(directory + "/start.toml"), directory, on_event=listen)
"""


@pytest.fixture(scope="module")
def checkpointed() -> Recipe:
    return Recipe(
        data="digits",
        per_class=(20, 5),
        model="repvgg-pico",
        preset="32px",
        epochs=2,
        batch=32,
        lr=0.05,
        mixup=0.2,
        augment="cutout",
        precision="fp32",
        threads=1,
        device="cpu",
        checkpoint_every=2,
    )


@pytest.fixture(scope="module")
def uninterrupted(checkpointed, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(checkpointed, directory)
    return directory


def assert_same(directory: Path, expected: Path) -> None:
    mine, theirs = (torch.load(path / run_files.CHECKPOINT, weights_only=True) for path in (directory, expected))
    assert replay.differences(mine, theirs) == []
    assert (directory / run_files.BEST).read_bytes() == (expected / run_files.BEST).read_bytes()
    assert records(directory) == records(expected)


def records(directory: Path) -> list[str]:
    lines = [json.loads(line) for line in (directory / run_files.RECORD).read_text().splitlines()]
    return [json.dumps({key: value for key, value in line.items() if key not in TIMES}) for line in lines]


@pytest.mark.parametrize("place", ["step", "writing", "epoch"])
def test_a_killed_run_ends_as_if_it_had_not_been(checkpointed, uninterrupted, tmp_path, place):
    recipe_file.write(checkpointed, tmp_path / "start.toml")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), place], capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    steps: list[Stepped] = []
    train(checkpointed, tmp_path, resume=True, on_event=lambda e: steps.append(e) if isinstance(e, Stepped) else None)
    assert 0 < len(steps) < 12, "it went on, rather than to have begun or to have been complete"
    assert_same(tmp_path, uninterrupted)


@pytest.mark.parametrize("number", KNOWN)
def test_a_signal_finishes_the_step_and_says_how_to_go_on(checkpointed, uninterrupted, tmp_path, number):
    recipe = checkpointed.replace(checkpoint_every=0)
    handlers = [signal.getsignal(known) for known in KNOWN]

    def interrupt(event):
        if isinstance(event, Stepped) and (event.epoch, event.step) == (0, 3):
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=f"--resume --out {tmp_path}") as caught:
        train(recipe, tmp_path, on_event=interrupt)
    assert caught.value.exit_code == 128 + number
    assert "after step 4 of 6 of epoch 1" in str(caught.value)
    assert [signal.getsignal(known) for known in KNOWN] == handlers
    train(recipe, tmp_path, resume=True)
    assert_same(tmp_path, uninterrupted)


def test_a_signal_at_the_last_step_of_an_epoch_leaves_its_evaluation_to_the_resumed_run(
    checkpointed, uninterrupted, tmp_path
):
    def interrupt(event):
        if isinstance(event, Stepped) and (event.epoch, event.step) == (0, 5):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(checkpointed, tmp_path, on_event=interrupt)
    assert records(tmp_path) == []
    train(checkpointed, tmp_path, resume=True)
    assert_same(tmp_path, uninterrupted)


def test_resuming_a_complete_run_changes_nothing(checkpointed, uninterrupted, tmp_path):
    before = (uninterrupted / run_files.RECORD).read_bytes()
    result = train(checkpointed, uninterrupted, resume=True)
    assert len(result.records) == 2 and (uninterrupted / run_files.RECORD).read_bytes() == before


def test_a_damaged_record_is_written_anew(checkpointed, uninterrupted):
    before = (uninterrupted / run_files.RECORD).read_bytes()
    (uninterrupted / run_files.RECORD).write_bytes(before[:-30])
    train(checkpointed, uninterrupted, resume=True)
    assert (uninterrupted / run_files.RECORD).read_bytes() == before


def test_a_changed_recipe_is_refused_with_what_differs_unless_it_is_meant(checkpointed, tmp_path):
    train(checkpointed.replace(epochs=1), tmp_path)
    longer = checkpointed.replace(lr=0.01)
    with pytest.raises(RepFoldError) as caught:
        train(longer, tmp_path, resume=True)
    assert "epochs: 1 -> 2" in str(caught.value) and "lr: 0.05 -> 0.01" in str(caught.value)
    assert "--override" in str(caught.value)
    result = train(longer, tmp_path, resume=True, override=True)
    assert [line["epoch"] for line in result.records] == [1, 2] and result.records[1]["lr"] < 0.01
    assert recipe_file.read(tmp_path / run_files.RECIPE) == longer


def test_a_run_is_not_run_over_and_one_without_a_checkpoint_begins(checkpointed, tmp_path):
    done: list[EpochDone] = []
    short = checkpointed.replace(epochs=1)
    train(short, tmp_path, resume=True, on_event=lambda e: done.append(e) if isinstance(e, EpochDone) else None)
    assert len(done) == 1
    with pytest.raises(RepFoldError, match=r"already holds a run \(checkpoint.pt\).*--resume"):
        train(short, tmp_path)


def tear(path: Path) -> bytes:
    path.write_bytes(path.read_bytes()[:-1000])
    return path.read_bytes()


def notes_of(recipe: Recipe, directory: Path, **how) -> list[Note]:
    notes: list[Note] = []
    train(recipe, directory, resume=True, on_event=lambda e: notes.append(e) if isinstance(e, Note) else None, **how)
    return notes


def test_a_torn_checkpoint_falls_back_to_the_one_before_and_ends_the_same(checkpointed, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    torn = tear(tmp_path / run_files.CHECKPOINT)
    notes = notes_of(checkpointed, tmp_path)
    assert [note.severe for note in notes] == [True]
    assert re.search(r"checkpoint\.pt cannot be read: .*goes on from .*checkpoint\.previous\.pt", notes[0].text)
    assert (tmp_path / run_files.DAMAGED_CHECKPOINT).read_bytes() == torn
    assert_same(tmp_path, uninterrupted)


def test_a_kill_between_two_renames_leaves_the_one_before(checkpointed, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    (tmp_path / run_files.CHECKPOINT).unlink()
    assert "There is no checkpoint.pt" in notes_of(checkpointed, tmp_path)[0].text
    assert_same(tmp_path, uninterrupted)


def test_two_torn_checkpoints_stop_the_resumed_run_and_are_left_as_they_are(checkpointed, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    torn = [tear(tmp_path / name) for name in (run_files.CHECKPOINT, run_files.PREVIOUS_CHECKPOINT)]
    with pytest.raises(
        RepFoldError, match=r"checkpoint\.pt cannot be read(.|\n)*checkpoint\.previous\.pt cannot be read"
    ):
        train(checkpointed, tmp_path, resume=True)
    assert [(tmp_path / name).read_bytes() for name in (run_files.CHECKPOINT, run_files.PREVIOUS_CHECKPOINT)] == torn


def test_the_best_network_is_that_of_the_checkpoint_gone_on_from(checkpointed, uninterrupted, tmp_path):
    """Both checkpoints are of before the second epoch's end, which was better: its network is there, but not known."""
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    (tmp_path / run_files.CHECKPOINT).unlink()
    known = torch.load(tmp_path / run_files.PREVIOUS_CHECKPOINT, weights_only=True)["state"]
    assert known["best_epoch"] == 1 and checkpoint.sha256(tmp_path / run_files.BEST) != known["best_sha256"]
    seen: list[str] = []

    def look(event):
        if isinstance(event, Started):
            seen.append(checkpoint.sha256(tmp_path / run_files.BEST))
            matrix = json.loads((tmp_path / run_files.CONFUSION).read_text())["matrix_TP"]
            assert matrix == known["best_confusion"].tolist()

    train(checkpointed, tmp_path, resume=True, on_event=look)
    assert seen == [known["best_sha256"]]


def test_results_without_a_checkpoint_are_not_begun_over(checkpointed, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    for name in (run_files.CHECKPOINT, run_files.PREVIOUS_CHECKPOINT):
        (tmp_path / name).unlink()
    for resume in (True, False):
        with pytest.raises(RepFoldError, match=r"record\.jsonl"):
            train(checkpointed, tmp_path, resume=resume)
    left = {path.name for path in tmp_path.iterdir()}
    assert run_files.BEST in left and run_files.LOCK not in left


def test_other_threads_are_told_to_end_at_other_bits(checkpointed, tmp_path):
    """The recipe leaves threads to the machine, and this changes."""
    auto = checkpointed.replace(threads=0, epochs=1)
    threads = torch.get_num_threads()
    train(auto, tmp_path)
    try:
        torch.set_num_threads(threads + 1)
        (note,) = notes_of(auto, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert f"with threads {threads}, and now has {threads + 1}" in note.text and "same bits" in note.text


def write_images(folder: Path, count: int) -> None:
    for name, value in (("dark", 20), ("light", 220)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("L", (8, 8), value + number).save(folder / name / f"{number}.png")


def test_changed_data_are_refused_unless_meant(checkpointed, tmp_path):
    data, run = tmp_path / "images", tmp_path / "run"
    write_images(data, 12)
    recipe = checkpointed.replace(data=str(data), per_class=(0, 0), batch=4, epochs=1, augment="none", mixup=0.0)
    train(recipe, run)
    os.utime(data / "dark" / "0.png", (1, 1))
    assert "were written since" in notes_of(recipe, run)[0].text
    write_images(data, 14)
    with pytest.raises(RepFoldError, match=r"The data are not those .* 24 images of .* before, 28 images"):
        train(recipe, run, resume=True)
    more = recipe.replace(epochs=2)
    assert "The data have changed" in notes_of(more, run, override=True)[0].text
