"""SIGKILL of a trial's process and of a runner loses nothing that is finished; two runners train no trial twice."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests import documents
from tests.study.conftest import TINY, Heard, run, wait_for

from repfold.study import study_file
from repfold.study.events import Progress
from repfold.study.results import read_results
from repfold.study.run_study import Resources, run_study
from repfold.study.store import FINISHED, Store


def values(study, store):
    return {arm.arm.name: arm.values for arm in read_results(study, store).arms}


def start(place: Path) -> BaseProcess:
    """A runner of the tiny study by the command line, in a process of its own, which prints into a file."""
    (place / "tiny.toml").write_text(TINY)
    words = ["study", "run", "tiny.toml", "--out", "out", "--jobs", "1"]
    forks = multiprocessing.get_context("forkserver")
    runner = forks.Process(target=documents.command_line, args=(words, place, place / "printed"))
    runner.start()
    return runner


def test_a_killed_trial_is_begun_again(trained, tmp_path):
    killed = []

    def kill_once(event):
        heard(event)
        if isinstance(event, Progress) and event.trial.label == "low, seed 0" and not killed:
            killed.extend(child.pid for child in multiprocessing.active_children())
            os.kill(killed[-1], signal.SIGKILL)

    study, store, heard = study_file.parse(TINY), Store(tmp_path), Heard()
    run_study(study, store, Resources(jobs=1, threads=1), kill_once)
    assert killed and set(heard.ended.values()) == {"trained"} and len(heard.ended) == 4
    assert values(study, store) == values(*trained[:2])


def test_a_killed_runner_loses_nothing_that_is_finished(trained, tmp_path):
    runner = start(tmp_path)
    wait_for(lambda: list(tmp_path.glob(f"trials/*/{FINISHED}")))
    os.kill(runner.pid, signal.SIGKILL)
    runner.join()
    before = {path: path.read_bytes() for path in tmp_path.glob(f"trials/*/{FINISHED}")}
    study, store, heard = run(TINY, tmp_path / "trials")
    after = {path: path.read_bytes() for path in tmp_path.glob(f"trials/*/{FINISHED}")}
    # The orphan of the runner may have come to its end meanwhile; nothing that was finished is trained again.
    assert len(after) == 4 and before.items() <= after.items()
    assert len(before) + list(heard.ended.values()).count("trained") <= 4
    assert values(study, store) == values(*trained[:2])


def test_two_runners_train_no_trial_twice(trained, tmp_path):
    (tmp_path / "trials").mkdir()
    other = start(tmp_path)
    wait_for(lambda: any((tmp_path / "trials").glob(".claims/*")) or not other.is_alive())
    study, store, heard = run(TINY, tmp_path / "trials", jobs=1)
    other.join()
    printed = (tmp_path / "printed").read_text()
    assert other.exitcode == 0, printed
    ours = [label for label, how in heard.ended.items() if how == "trained"]
    theirs = re.findall(r"\d+/4  (\S+, seed \d) +finished in", printed)
    assert sorted([*ours, *theirs]) == sorted(["none, seed 0", "none, seed 1", "low, seed 0", "low, seed 1"]), printed
    assert values(study, store) == values(*trained[:2])
