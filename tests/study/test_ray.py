"""A study on a Ray cluster of this machine: the same table as here, also when a worker and the head are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.study.conftest import TINY, run

from repfold.errors import RepFoldError
from repfold.study.results import read_results
from repfold.study.store import FINISHED

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")  # which Ray brings
PORT = 26379
LONG = TINY.replace("epochs = 1", "epochs = 3")


class Head:
    """A cluster of one machine, begun as people begin one; its own processes are known, and no others are killed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.address = f"127.0.0.1:{PORT}"

    def start(self) -> None:
        words = f"start --head --port {PORT} --num-cpus 2 --include-dashboard false --disable-usage-stats --block"
        # With the processor shared fairly: Ray's workers are nice, and starve where others are at work.
        environment = os.environ | {"RAY_worker_niceness": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "ray.scripts.scripts", *words.split(), "--temp-dir", str(self.place)]
        with (self.place / "head.txt").open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_for(lambda: "runtime started" in (self.place / "head.txt").read_text())

    def kill(self) -> None:
        """SIGKILL of all of it: the head, its workers."""
        for one in [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def workers(self) -> list[int]:
        """The processes that train."""
        every = psutil.Process(self.process.pid).children(recursive=True)
        return [one.pid for one in every if "carry_out" in " ".join(one.cmdline())]


def wait_for(condition, seconds=300.0):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it takes for ever"
        time.sleep(0.05)


@pytest.fixture
def head(tmp_path_factory):
    made = Head(tmp_path_factory.mktemp("r"))
    made.start()
    yield made
    made.kill()


def start(place: Path, address: str) -> subprocess.Popen:
    (place / "tiny.toml").write_text(LONG)
    words = [sys.executable, "-m", "repfold", "study", "run", "tiny.toml", "--out", "out", "--on", "ray"]
    environment = os.environ | {"RAY_ADDRESS": address, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def values(study, store):
    return {arm.arm.name: arm.values for arm in read_results(study, store).arms}


def test_a_worker_and_the_head_are_killed(head, tmp_path, monkeypatch):
    first = start(tmp_path, head.address)
    wait_for(lambda: list(tmp_path.glob("trials/*/record.jsonl")) and head.workers())
    os.kill(head.workers()[0], signal.SIGKILL)
    wait_for(lambda: list(tmp_path.glob(f"trials/*/{FINISHED}")) or first.poll() is not None)
    head.kill()
    printed, errors = first.communicate()
    assert first.returncode == 2 and "The Ray cluster went away" in errors, printed + errors
    before = {path: path.read_bytes() for path in tmp_path.glob(f"trials/*/{FINISHED}")}
    assert before
    head.start()
    monkeypatch.setenv("RAY_ADDRESS", head.address)
    study, store, heard = run(LONG, tmp_path / "trials", on="ray")
    after = {path: path.read_bytes() for path in tmp_path.glob(f"trials/*/{FINISHED}")}
    assert len(after) == 4 and before.items() <= after.items()
    assert list(heard.ended.values()) == ["trained"] * (4 - len(before))
    here, its_store, _ = run(LONG, tmp_path / "here")
    assert values(study, store) == values(here, its_store)


def test_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RepFoldError, match=r"There is no Ray cluster at '127.0.0.1:1'.*ray start --head"):
        run(TINY, tmp_path, on="ray")
