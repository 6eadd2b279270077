"""Trials that several processes train together, as torchrun starts them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from tests.study.conftest import TINY, Heard, run, wait_for

from repfold import run_files
from repfold.study import rounds, study_file
from repfold.study.events import Progress
from repfold.study.results import read_results
from repfold.study.run_study import Resources, run_study
from repfold.study.store import Store

# Without BatchNorm, whose statistics are each process's own on CPUs, two processes compute what one does.
ONE = TINY.replace("[0, 1]", "[0]").replace("[arms.low]\nlr = 0.001\n", "")
ONE = ONE.replace("[settings]", '[settings]\nnorm = "group:4"')
TWO = ONE.replace("seeds =", "processes = 2\nseeds =")


def test_two_processes_do_what_one_does(tmp_path):
    ended = []
    for text in (ONE, TWO):
        study, store, heard = run(text, tmp_path)
        assert heard.ended == {"none, seed 0": "trained"}
        (found,) = read_results(study, store).arm("none").runs
        ended.append((found.directory, found.epochs[-1]))
    (alone, last_alone), (together, last_together) = ended
    assert alone != together
    for key in ("train_loss", "val_loss"):
        assert last_together[key] == pytest.approx(last_alone[key], rel=1e-4)
    environment = json.loads((together / run_files.ENVIRONMENT).read_text())
    assert environment["processes"] == 2
    told = json.loads((together / "trial.json").read_text())
    assert "train/distributed.py" in told["code"]["files"] and told["overhead"] < 60


def test_where_one_of_them_is_killed_all_are_begun_again(tmp_path):
    killed = []

    def kill_once(event):
        heard(event)
        if isinstance(event, Progress) and not killed:
            (trial,) = (child.pid for child in multiprocessing.active_children())
            children = Path(f"/proc/{trial}/task/{trial}/children")
            wait_for(lambda: len(children.read_text().split()) == 2)
            killed.append(int(children.read_text().split()[1]))
            os.kill(killed[0], signal.SIGKILL)

    study, store, heard = study_file.parse(TWO), Store(tmp_path), Heard()
    run_study(study, store, Resources(jobs=1, threads=1), kill_once)
    assert killed and heard.ended == {"none, seed 0": "trained"}


def test_what_one_of_them_refuses_is_told_with_the_command(tmp_path):
    wrong = TWO.replace("[settings]", '[settings]\nmodel_options = "depth=9999"')
    study, store, heard = run(wrong, tmp_path)
    assert heard.ended == {"none, seed 0": "failed"}
    ((_, failure),) = read_results(study, store).arm("none").failed
    assert "depth" in failure.error and not failure.error.startswith("RepFoldError")
    assert failure.command.startswith("torchrun --standalone --nproc-per-node 2 -m repfold train")


def test_processes_are_part_of_the_key(tmp_path):
    one, two = (rounds.rounds(study_file.parse(text), Store(tmp_path))[0][0] for text in (ONE, TWO))
    assert (one.processes, two.processes) == (1, 2) and one.key != two.key
