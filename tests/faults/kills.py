"""Kill trainings at random moments, go on with them, and compare what they end as with an undisturbed run, to the bit.

    python -m tests.faults.kills --kills 200 --out kills.json

A chain is one run: killed a few times in stages drawn at random, begun again with ``--resume auto`` each time, and at
last left to end. The script goes on where ``--out`` says that it was, and writes it after every chain.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SMALL = (
    "digits --per-class 20 5 --model repvgg-pico --preset 32px --epochs 2 --batch 32 --lr 0.05 --precision fp32 "
    "--threads 1 --device cpu --checkpoint-every 2"
)
STAGES = ("start", "step", "checkpoint", "epoch", "fold", "export", "report")
LONGEST = 900.0  # seconds that an attempt may take on a busy machine


@dataclass(frozen=True)
class Kind:
    """A training to be killed: its flags, its processes, and the stages that it has."""

    flags: str
    processes: int = 1
    stages: tuple[str, ...] = STAGES


KINDS = {
    "sgd, mixup": Kind(f"{SMALL} --mixup 0.2 --augment cutout"),
    "adamw, ema": Kind(f"{SMALL} --optimizer adamw --lr 0.003 --average ema:decay=0.9"),
    "lookahead, swa": Kind(f"{SMALL} --lookahead 3 --average swa:start=0.5 --no-finish", 1, STAGES[:4]),
    "expanded": Kind(f"{SMALL} --model resnet20-cifar --expand acb --no-finish", 1, STAGES[:4]),
    "two processes": Kind(f"{SMALL} --no-finish", 2, STAGES[:4]),
}


@dataclass(frozen=True)
class Process:
    """An attempt under way: its first process, how to wait for its exit code, and the file that tells its stages."""

    pid: int
    wait: Callable[[float], int | None]
    stages: Path

    def told(self) -> list[tuple[float, int, str]]:
        """The stages so far: when, which process, which stage."""
        lines = self.stages.read_text().splitlines(keepends=True) if self.stages.exists() else []
        words = [line.split() for line in lines if line.endswith("\n")]
        return [(float(when), int(pid), stage) for when, pid, stage in words]


def start(kind: Kind, directory: Path, place: Path) -> Process:
    """Begin the training of ``kind``, or go on with it, in ``directory``; logs go to ``place``."""
    arguments = ["train", *kind.flags.split(), "--out", str(directory), "--resume", "auto"]
    stages = place / "stages"
    stages.unlink(missing_ok=True)
    if kind.processes == 1:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.victim", "repfold.fold", "repfold.report", "onnx", "onnxscript"])
        from tests.faults import victim

        one = context.Process(target=victim.run, args=(arguments, str(stages), str(place / "log")))
        one.start()
        assert one.pid is not None
        return Process(one.pid, lambda seconds: (one.join(seconds), one.exitcode)[1], stages)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(kind.processes)]
    with (place / "log").open("wb") as log:
        several = subprocess.Popen(
            [*command, str(HERE / "victim.py"), *arguments],
            env=os.environ | {"REPFOLD_STAGES": str(stages), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return Process(several.pid, lambda seconds: _exit_code(several, seconds), stages)


def _exit_code(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def finish(kind: Kind, directory: Path, place: Path) -> list[tuple[float, int, str]]:
    """Let the training come to its end; return the stages that it went through."""
    process = start(kind, directory, place)
    code = process.wait(LONGEST)
    if code != 0:
        kill(process)
        raise AssertionError(f"{directory}: exit code {code}\n{(place / 'log').read_text(errors='replace')[-3000:]}")
    return process.told()


def disturb(
    kind: Kind, directory: Path, place: Path, stage: str, spans: dict[str, float], draw: random.Random
) -> str | None:
    """Begin or go on, and kill the training in ``stage``; return the stage that it died in, or None if it ended first.

    ``spans``: how long each stage takes.
    """
    process = start(kind, directory, place)
    wanted, began = draw.randint(1, 6) if stage in ("step", "checkpoint") else 1, time.monotonic()
    while process.wait(0.004) is None and time.monotonic() - began < LONGEST:
        entered = [told for _, _, told in process.told()]
        if entered.count(stage) >= wanted:
            process.wait(draw.uniform(0, spans.get(stage, 0.1)))
            break
    if process.wait(0) is not None:
        return None
    workers = sorted({pid for _, pid, _ in process.told()})
    alone = kind.processes > 1 and workers and draw.random() < 0.5
    if alone:  # one of several: torchrun has to end the others
        os.kill(draw.choice(workers), signal.SIGKILL)
        process.wait(60.0)
    kill(process)
    told = process.told()
    return told[-1][2] if told else "start"


def kill(process: Process) -> None:
    """Kill a training, all of its processes, which torchrun begins in sessions of their own."""
    for pid in [process.pid, *descendants(process.pid), *{pid for _, pid, _ in process.told()}]:
        if _is_ours(pid):
            os.kill(pid, signal.SIGKILL)
    process.wait(30.0)
    while any(_is_ours(pid) for _, pid, _ in process.told()):
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """The processes that ``pid`` began, and that these began."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def _is_ours(pid: int) -> bool:
    """Whether ``pid`` is a live training of this harness: numbers are given again to others."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and any(mark in command for mark in (b"victim", b"forkserver", b"multiprocessing"))


def spans_of(told: Sequence[tuple[float, int, str]]) -> dict[str, float]:
    """How long each stage lasts, on the average of an undisturbed run."""
    lasted: dict[str, list[float]] = {}
    for (began, _, stage), (ended, _, _) in pairwise(told):
        lasted.setdefault(stage, []).append(ended - began)
    return {stage: sum(times) / len(times) for stage, times in lasted.items()}


def differences(directory: Path, undisturbed: Path) -> list[str]:
    """What of a run is not as that of another, to the bit; times are left out, and nothing may be left over."""
    from repfold import run_files
    from repfold.train import checkpoint, replay

    last = [checkpoint.read(path / run_files.CHECKPOINT) for path in (directory, undisturbed)]
    odd = replay.differences(last[0], last[1])
    for name in (run_files.BEST, run_files.CONFUSION, run_files.PLAIN, run_files.CERTIFICATE):
        if (undisturbed / name).exists() and (directory / name).read_bytes() != (undisturbed / name).read_bytes():
            odd.append(name)
    if _records(directory) != _records(undisturbed):
        odd.append(run_files.RECORD)
    there, wanted = ({path.name for path in place.iterdir()} for place in (directory, undisturbed))
    odd += sorted(f"{name} is missing" for name in wanted - there)
    previous = {run_files.PREVIOUS_CHECKPOINT, run_files.PREVIOUS_BEST}
    return odd + sorted(f"{name} is left over" for name in there - wanted - previous)


def _records(directory: Path) -> list[dict[str, Any]]:
    from repfold.train.replay import TIMES

    lines = (json.loads(line) for line in (directory / "record.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def chain(
    kind: Kind, undisturbed: Path, place: Path, stages: Sequence[str], spans: dict[str, float], draw: random.Random
) -> tuple[list[str], list[str]]:
    """Kill one run in each of ``stages``, and let it end; return the stages it died in, and what then differs."""
    directory = place / "run"
    shutil.rmtree(directory, ignore_errors=True)
    died = [disturb(kind, directory, place, stage, spans, draw) for stage in stages]
    finish(kind, directory, place)
    return [stage for stage in died if stage is not None], differences(directory, undisturbed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("kills.json"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    told = (
        json.loads(given.out.read_text()) if given.out.exists() else {"kills": 0, "chains": 0, "stages": {}, "odd": []}
    )
    with tempfile.TemporaryDirectory(prefix="repfold-kills-") as scratch:
        known: dict[str, tuple[Path, dict[str, float]]] = {}
        while told["kills"] < given.kills:
            draw = random.Random(f"{given.seed} {told['chains']}")
            name = list(KINDS)[told["chains"] % len(KINDS)]
            kind, place = KINDS[name], Path(scratch) / name.replace(", ", "-").replace(" ", "-")
            if name not in known:
                (place / "undisturbed").mkdir(parents=True)
                known[name] = place / "undisturbed", spans_of(finish(kind, place / "undisturbed", place))
            stages = draw.choices(kind.stages, k=draw.randint(2, 6))
            try:
                died, odd = chain(kind, known[name][0], place, stages, known[name][1], draw)
            except AssertionError as error:
                died, odd = [], [str(error)]
            told["chains"] += 1
            told["kills"] += len(died)
            for stage in died:
                counts = told["stages"].setdefault(name, {})
                counts[stage] = counts.get(stage, 0) + 1
            if odd:
                told["odd"].append({"chain": told["chains"], "kind": name, "stages": stages, "differs": odd})
            given.out.write_text(json.dumps(told, indent=1) + "\n")
            print(f"{told['kills']} kills, {told['chains']} chains, {len(told['odd'])} ended otherwise", flush=True)
    print(json.dumps(told["stages"], indent=1))


if __name__ == "__main__":
    main()
