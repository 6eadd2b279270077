"""One run a directory, and a lock that no killed process leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from repfold import atomic, run_files
from repfold.errors import RepFoldError
from repfold.train import run_lock, train
from repfold.train.events import Stepped
from repfold.train.run_lock import RunLostError, held, holder_of

HOLDER = """
import pathlib, sys, time
from repfold.train.run_lock import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def write_lock(directory, host: str, pid: int) -> None:
    (directory / run_files.LOCK).write_text(
        json.dumps({"host": host, "pid": pid, "started": "1", "since": "yesterday"})
    )


def test_a_second_run_is_refused_with_the_name_of_the_first_until_that_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert holder_of(tmp_path).pid == process.pid
        with pytest.raises(RepFoldError, match=f"process {process.pid} on {socket.gethostname()}, since 20.*--out"):
            held(tmp_path).__enter__()
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / run_files.LOCK).exists() and holder_of(tmp_path) is None
    with held(tmp_path):
        assert json.loads((tmp_path / run_files.LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_made_for_nothing_is_removed_again(tmp_path):
    with pytest.raises(RepFoldError), held(tmp_path / "runs" / "one"):
        raise RepFoldError("no such data")
    assert not (tmp_path / "runs").exists()


def test_without_locks_of_the_system_the_process_that_is_named_decides(tmp_path, monkeypatch):
    def no_locks(descriptor):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(atomic, "lock", no_locks)
    write_lock(tmp_path, socket.gethostname(), 2**22 + 1)  # no process has such a number
    with held(tmp_path), pytest.raises(RepFoldError, match=f"process {os.getpid()} on"):
        held(tmp_path).__enter__()
    write_lock(tmp_path, socket.gethostname(), os.getpid())  # this number, of a process that began at another time
    with held(tmp_path):
        pass
    write_lock(tmp_path, "elsewhere", os.getpid())
    with pytest.raises(RepFoldError, match=r"process .* on elsewhere, since yesterday.*remove its lock: rm "):
        held(tmp_path).__enter__()


def test_the_lock_of_another_machine_counts_where_it_cannot_be_seen_from_here(tmp_path, monkeypatch):
    write_lock(tmp_path, "elsewhere", 7)
    monkeypatch.setattr(run_lock, "_reaches_other_machines", lambda path: False)
    with pytest.raises(RepFoldError, match="on elsewhere"):
        held(tmp_path).__enter__()
    monkeypatch.setattr(run_lock, "_reaches_other_machines", lambda path: True)
    with held(tmp_path):
        pass


def test_what_killed_processes_left_half_written_is_removed_and_nothing_else(tmp_path):
    kept = [".checkpoint.keep.pt", ".other.abcd1234.txt", "best.safetensors"]
    for name in (*kept, ".checkpoint.abcd1234.pt", ".best.a_cd1234.safetensors", ".model.abcd1234.onnx.data"):
        (tmp_path / name).write_text("half")
    with atomic.replacing(tmp_path / run_files.RECORD) as writing, held(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {*kept, writing.name, run_files.LOCK}


def test_a_directory_that_is_deleted_meanwhile_is_told(recipe, tmp_path):
    def delete(event):
        if isinstance(event, Stepped) and (event.epoch, event.step) == (0, 3):
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(RunLostError, match="run was deleted while the run was training in it"):
        train(recipe, tmp_path / "run", on_event=delete)
    assert not (tmp_path / "run").exists()


def test_a_lock_that_is_taken_away_ends_the_run(recipe, tmp_path):
    def unlock(event):
        if isinstance(event, Stepped) and (event.epoch, event.step) == (1, 3):
            (tmp_path / run_files.LOCK).unlink()

    with pytest.raises(RunLostError, match="another run may be writing there"):
        train(recipe, tmp_path, on_event=unlock)
    assert (tmp_path / run_files.CHECKPOINT).exists()
