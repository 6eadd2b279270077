"""Run the command line on hundreds of bad inputs, and count the answers.

    python -m tests.faults.bad_inputs [--sample N] [--seed S] [--jobs J] [--out FILE.json]

A case is clean when it ends in time with exit code 0 or 2 (verify: 1) without a traceback, and a refusal is told. Each
runs in a fork of one process that has imported everything, so that a thousand take minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults import sound
from tests.faults.bad_cases import Case, all_cases

# A case hangs when it computes for so long, or does nothing for so long: the clock alone would blame a busy machine.
BUSY_SECONDS, IDLE_SECONDS = 45.0, 30.0
MEMORY = 12 * 2**30  # of address space: what wants more gets what a full machine gives
VERDICTS = ("accepted", "refused", "traceback", "hang", "raw exit", "silent")
CLEAN = ("accepted", "refused")


@dataclass(frozen=True)
class Outcome:
    """How a case ended: one of VERDICTS, the exit code (minus the signal's number), and the end of what was printed."""

    case: str
    command: str
    verdict: str
    exit_code: int
    seconds: float
    printed: str


def import_everything() -> None:
    """Import what commands import, once for all forks, with no thread begun."""
    import torch

    torch.set_num_threads(1)
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    import repfold.deploy
    import repfold.engine
    import repfold.models.convert
    import repfold.report.chart
    import repfold.report.chart_svg
    import repfold.report.page
    import repfold.train.find_lr  # noqa: F401


class Running:
    """A case under way."""

    def __init__(self, case: Case, place: Path) -> None:
        self.case, self.place = case, place
        self.process = _fork(case, place)
        self.busy, self.marked, self.last_busy = 0.0, 0.0, time.monotonic()

    def hangs(self) -> bool:
        """Whether it has computed for too long by now, or not at all for too long."""
        busy, now = _processor_seconds(self.process), time.monotonic()
        self.busy = busy
        if busy > self.marked + 0.5:  # less is a thread of some library that looks round now and then
            self.marked, self.last_busy = busy, now
        return busy > BUSY_SECONDS or now - self.last_busy > IDLE_SECONDS

    def kill(self) -> None:
        """End the case and whatever it started."""
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def _processor_seconds(process: int) -> float:
    """What the process and its ended children have used of the processors."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def run(cases: Sequence[Case], *, jobs: int = 2) -> Iterator[Outcome]:
    """Run the cases, ``jobs`` at a time, each in a directory of its own; yield how they ended, as they end."""
    import_everything()
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as name:
        root = Path(name)
        (root / "sound").mkdir()
        sound.make(root / "sound")
        waiting, running = list(enumerate(cases)), list[Running]()
        while waiting or running:
            while waiting and len(running) < jobs:
                number, case = waiting.pop(0)
                place = root / str(number)
                shutil.copytree(root / "sound", place, copy_function=os.link)
                case.arrange(place)
                running.append(Running(case, place))
            for one in list(running):
                done, status = os.waitpid(one.process, os.WNOHANG)
                if not done and not one.hangs():
                    continue
                if not done:
                    one.kill()
                running.remove(one)
                code = os.waitstatus_to_exitcode(status) if done else -signal.SIGKILL
                yield _judge(one.case, one.place, code, one.busy, hung=not done)
                _remove(one.place)
            time.sleep(0.02)


def _fork(case: Case, place: Path) -> int:
    """Run the case in a child; return its process number."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(2 * BUSY_SECONDS), int(2 * BUSY_SECONDS)))
        os.chdir(place)
        os.environ["XDG_CACHE_HOME"] = str(place / ".cache")
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number, name in ((1, ".stdout"), (2, ".stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["repfold", *case.arguments]
        from repfold.cli import main

        main(list(case.arguments))
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _judge(case: Case, place: Path, code: int, took: float, *, hung: bool) -> Outcome:
    out, error = ((place / name).read_text(errors="replace") for name in (".stdout", ".stderr"))
    if hung:
        verdict = "hang"
    elif "Traceback (most recent call last)" in out + error:
        verdict = "traceback"
    elif code not in (0, 2) and not (code == 1 and case.arguments[0] == "verify"):  # which says by it that a run failed
        verdict = "raw exit"
    elif code == 2 and not (out + error).strip():
        verdict = "silent"
    else:
        verdict = "refused" if code else "accepted"
    command = " ".join(ascii(word)[1:-1][:80] for word in ("repfold", *case.arguments))
    return Outcome(case.name, command, verdict, code, round(took, 2), (out[-300:] + error)[-1500:])


def _remove(place: Path) -> None:
    for path in (place, *place.iterdir()):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(place)


def main() -> None:
    """Run all cases, or a sample; print the counts and what was not clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="so many cases, drawn at random; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--match", default="", help="only cases with this in their name")
    parser.add_argument("--out", type=Path, help="where to write every outcome, as JSON")
    options = parser.parse_args()
    cases = [case for case in all_cases() if options.match in case.name]
    if options.sample is not None:
        cases = random.Random(options.seed).sample(cases, min(options.sample, len(cases)))
    outcomes: list[Outcome] = []
    for outcome in run(cases, jobs=options.jobs):
        outcomes.append(outcome)
        if outcome.verdict not in CLEAN:
            print(f"{outcome.verdict} ({outcome.exit_code}): {outcome.command}\n{outcome.printed}\n", flush=True)
    counts = Counter(outcome.verdict for outcome in outcomes)
    verbs = Counter(outcome.command.split()[1] for outcome in outcomes)
    told = {"cases": len(outcomes), **{verdict: counts[verdict] for verdict in VERDICTS}}
    print(json.dumps({**told, "verbs": dict(sorted(verbs.items()))}))
    if options.out:
        options.out.write_text(json.dumps({**told, "outcomes": [asdict(one) for one in outcomes]}, indent=1) + "\n")
    sys.exit(any(outcome.verdict not in CLEAN for outcome in outcomes))


if __name__ == "__main__":
    main()
