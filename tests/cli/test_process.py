"""A command as a process: outputs that close, signals at any moment, limits; files stay whole and exit codes true."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import repfold
from repfold import allowance, models, run_files
from repfold.cli import main, openmp
from repfold.cli.outlet import Outlet
from repfold.signals import KNOWN, Interrupted, Request, interrupting
from repfold.train.checkpoint import State
from repfold.train.loop import Loop

SMALL = "digits --per-class 20 5 --model repvgg-pico --preset 32px --epochs 1 --batch 32 --threads 1 --device cpu"


def broken_pipe():
    """A stream whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def closed_terminal():
    """A stream to a terminal that is gone."""
    master, slave = pty.openpty()
    os.close(master)
    return open(slave, "w")


def full_disk():
    """A stream to a file that takes nothing."""
    return open("/dev/full", "w")


DEAD = {errno.EPIPE: broken_pipe, errno.EIO: closed_terminal, errno.ENOSPC: full_disk}


def exit_code(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return leaving.code
    return 0


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    network = models.create("repvgg-pico", num_classes=3, preset="32px").eval()
    repfold.save(network, tmp_path / "best.safetensors")
    return tmp_path / "best.safetensors"


@pytest.mark.parametrize("number", DEAD)
def test_a_stream_that_fails_takes_what_is_printed_and_says_once_why(number):
    with DEAD[number]() as stream:
        outlet = Outlet(stream)
        for _ in range(3):
            print("line" * 5000, file=outlet, flush=True)
        assert outlet.failure.errno == number and outlet.finish() is outlet.failure
        stream.flush()  # nothing is left that could fail when the interpreter ends


def test_a_log_goes_on_when_there_is_room_again(tmp_path):
    with open(tmp_path / "log", "w") as stream:
        outlet = Outlet(stream)
        before = os.dup(stream.fileno())
        with full_disk() as full:
            os.dup2(full.fileno(), stream.fileno())
            print("lost", file=outlet, flush=True)
        os.dup2(before, stream.fileno())
        os.close(before)
        print("kept", file=outlet, flush=True)
    assert outlet.failure.errno == errno.ENOSPC
    assert (tmp_path / "log").read_text().endswith("kept\n")


def test_what_the_terminal_cannot_show_is_written_as_its_escape(tmp_path):
    with open(tmp_path / "log", "w", encoding="ascii") as stream:
        print("Größe \udcff", file=Outlet(stream))
    assert (tmp_path / "log").read_text() == "Gr\\xf6\\xdfe \\udcff\n"


@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 141), (errno.EIO, 2), (errno.ENOSPC, 2)])
def test_an_answer_that_did_not_arrive_is_no_success(number, code, tmp_path, monkeypatch, capsys):
    for arguments in (["recipes"], ["schedule", "cosine", "--plot", str(tmp_path / "plot.svg"), "--json"]):
        with DEAD[number]() as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert exit_code(*arguments) == code
    told = capsys.readouterr().err
    assert "Traceback" not in told and ("could not be written" in told) == (code == 2)


def test_a_failure_stays_one_when_nobody_reads_of_it(monkeypatch):
    with broken_pipe() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert exit_code("evaluate", "nowhere") == 2
        assert exit_code("no-such-command") == 2


@pytest.mark.parametrize("number", DEAD)
def test_training_goes_on_without_its_terminal_and_is_complete(number, tmp_path, monkeypatch):
    with DEAD[number]() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        finish = [] if number == errno.EPIPE else ["--no-finish"]  # the rest once is enough
        assert exit_code("train", *SMALL.split(), *finish, "--out", tmp_path / "run") == 0
    assert {"checkpoint.pt", "best.safetensors", "record.jsonl"} <= files(tmp_path / "run")
    assert ("report.html" in files(tmp_path / "run")) == (number == errno.EPIPE)


def test_a_reader_that_leaves_ends_a_command_as_it_does_others():
    command = f"{sys.executable} -m repfold recipes --json | true; exit ${{PIPESTATUS[0]}}"
    # The pipe may hold all of it before its reader is gone; a delay of the reader's end would not change that.
    ended = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)
    assert ended.returncode in (0, 141) and ended.stderr == b""


def test_an_output_closed_from_the_start_is_not_mistaken_for_a_file(tmp_path):
    command = f"{sys.executable} -m repfold schedule cosine --plot {tmp_path}/plot.svg >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", command], timeout=120).returncode == 0
    assert (tmp_path / "plot.svg").read_text().rstrip().endswith("</svg>")


@pytest.mark.parametrize("number", KNOWN)
def test_a_signal_during_imports_ends_the_command_with_a_line(number, tmp_path):
    program = (
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch':\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from repfold.__main__ import main\n"
        "main()\n"
    )
    arguments = [sys.executable, "-c", program, "train", "digits", "--out", str(tmp_path / "run")]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 128 + number
    assert ended.stderr.startswith(f"repfold: Stopped by {number.name}.") and ended.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("place", "left", "told"),
    [
        ("repfold.train.assemble.open_data", set(), "before the first step"),
        ("repfold.deploy.finish._fold", {"best.safetensors", "checkpoint.pt"}, "nothing is done"),
        ("repfold.deploy.finish.export_onnx", {"plain.safetensors", "certificate.json"}, "folding is done"),
        (
            "repfold.deploy.finish.write",
            {"model.onnx", "timings.json"},
            "folding, exporting, timing, looking at mistakes is done",
        ),
    ],
)
def test_a_signal_outside_of_the_steps_says_what_is_done_and_what_is_not(
    place, left, told, tmp_path, monkeypatch, capsys
):
    def interrupt(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not answered")

    monkeypatch.setattr(place, interrupt)
    run = tmp_path / "run"
    assert exit_code("train", *SMALL.split(), "--out", run) == 143
    assert left <= files(run) and not [name for name in files(run) if name.startswith(".")]
    message = capsys.readouterr().err
    assert "repfold: Stopped by SIGTERM." in message and told in message
    if left:
        assert f"repfold train --resume --out {run}" in message
    if place == "repfold.deploy.finish.export_onnx":
        monkeypatch.undo()
        assert exit_code("train", "--resume", "--out", run) == 0
        assert files(run) == {*run_files.ALWAYS, run_files.MISTAKES}
    assert run.exists() == bool(left)


def test_a_signal_that_training_is_too_near_its_end_to_see_is_answered_after_it(tmp_path, monkeypatch, capsys):
    end_epoch = Loop._end_epoch

    def interrupt(self: Loop, state: State) -> None:
        end_epoch(self, state)
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(Loop, "_end_epoch", interrupt)
    assert exit_code("train", *SMALL.split(), "--out", tmp_path / "run") == 128 + signal.SIGUSR1
    assert "Training is complete; what follows it is not done." in capsys.readouterr().err
    assert "checkpoint.pt" in files(tmp_path / "run") and "plain.safetensors" not in files(tmp_path / "run")


@pytest.mark.parametrize("number", KNOWN)
def test_every_signal_leaves_the_file_that_was_there(number, model, monkeypatch, capsys):
    plain = model.parent / "plain.safetensors"
    plain.write_bytes(b"old")
    fsync = os.fsync

    def interrupt(descriptor: int) -> None:
        os.kill(os.getpid(), number)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", interrupt)
    before = signal.getsignal(number)
    assert exit_code("fold", model, "-o", plain, "--example", "1,3,32,32") == 128 + number
    assert plain.read_bytes() == b"old" and files(model.parent) == {"best.safetensors", "plain.safetensors"}
    assert capsys.readouterr().err.endswith(f"repfold: Stopped by {number.name}. Nothing was written.\n")
    assert signal.getsignal(number) is before


def test_what_was_told_to_ignore_the_terminals_end_ignores_it(model, monkeypatch):
    """As nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda descriptor: (os.kill(os.getpid(), signal.SIGHUP), fsync(descriptor)))
        plain = model.parent / "plain.safetensors"
        assert exit_code("fold", model, "-o", plain, "--example", "1,3,32,32") == 0 and plain.exists()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_repeated_at_once_does_not_break_into_the_clearing_up():
    cleared = False
    with pytest.raises(Interrupted) as caught, interrupting():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGXCPU)
            cleared = True
    assert cleared and caught.value.number == signal.SIGTERM


def test_only_a_person_who_asks_again_after_a_while_is_impatient(monkeypatch):
    """A limit of processor time is told every second, and Slurm's notice is followed by another signal."""
    times = iter([1.0, 3.0, 7.0, 7.5, 9.0, 9.1])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    request = Request()
    asked = [signal.SIGXCPU, signal.SIGXCPU, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM]
    assert [request.note(number) for number in asked] == [False] * 5 + [True]
    assert request.signal == signal.SIGXCPU


def test_threads_sleep_after_a_while_unless_the_user_has_said_how_they_wait(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(allowance, "cores", lambda: 2)
    for running, spins in ((1, openmp.SPINS), (5, 0)):  # this thread, and those of others
        monkeypatch.setattr(openmp, "_running", lambda running=running: running)
        openmp.yield_to_others()
        assert os.environ.pop("GOMP_SPINCOUNT") == str(spins)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    openmp.yield_to_others()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_what_runs_beside_is_seen(tmp_path, monkeypatch):
    before = openmp._running()
    assert before >= 1
    monkeypatch.setattr(openmp, "_STATISTICS", tmp_path / "stat")
    assert openmp._running() == 1 and not openmp.is_busy()
    (tmp_path / "stat").write_text("cpu 1 2\nprocs_running 9\nprocs_blocked 0\n")
    monkeypatch.setattr(allowance, "cores", lambda: 16)
    assert openmp._running() == 9 and openmp.is_busy()
    monkeypatch.setattr(allowance, "cores", lambda: 17)
    assert not openmp.is_busy()


def test_too_few_files_are_told():
    command = f"ulimit -n 12; exec {sys.executable} -m repfold recipes"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and "Only 12 files" in ended.stderr and "ulimit -n 1024" in ended.stderr
