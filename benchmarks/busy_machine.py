"""What other programs on the machine cost a training, and what giving way to them costs it alone.

python benchmarks/busy_machine.py --rounds 5             # repfold demo; alone and beside four busy processes, by turns
python benchmarks/busy_machine.py --command "repfold train photos --out {out} --epochs 1"
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# What GNU's OpenMP does by itself: threads look 300,000 times before they sleep.
WAITING = {"RepFold's choice": None, "GNU's own": "300000"}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that compute without end beside what runs in the block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.5 if processes else 0)
        yield
    finally:
        for other in others:
            other.kill()


def seconds(command: str, spins: str | None, limit: float) -> tuple[float, float]:
    """Wall and processor seconds of one run of the command; infinite when it takes longer than the ``limit``."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    if spins is not None:
        environment["GOMP_SPINCOUNT"] = spins
    with tempfile.TemporaryDirectory() as directory:
        words = [word.format(out=f"{directory}/run") for word in shlex.split(command)]
        words = [sys.executable, "-m", "repfold", *words[1:]] if words[0] == "repfold" else words
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=limit)
        except subprocess.TimeoutExpired:
            return float("inf"), float("inf")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default="repfold demo --out {out}")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="GNU's own waiting beside busy processes too: minutes a run")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a run is given up")
    options = parser.parse_args()
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    settings = [(name, others) for others in (0, options.processes) for name in WAITING]
    settings = settings if options.all else settings[:-1]
    found: dict[tuple[str, int], list[tuple[float, float]]] = {setting: [] for setting in settings}
    for _ in range(options.rounds):
        for name, others in settings:
            with busy(others):
                found[name, others].append(seconds(options.command, WAITING[name], options.limit))
            print(f"  {name}, beside {others}: {found[name, others][-1][0]:.1f} s", file=sys.stderr, flush=True)
    fair = max(1.0, (threads + options.processes) / cores)
    print(f"{options.command}: {cores} cores, {threads} threads, torch {torch.__version__}, n = {options.rounds}")
    print(f"A fair share beside {options.processes} busy processes is {fair:.1f} times the time alone.\n")
    print("| threads wait | beside | median s | all | processor s | to GNU's own alone | to the fair share |")
    print("|---|---|---|---|---|---|---|")
    alone = statistics.median(wall for wall, _ in found["GNU's own", 0])
    for name, others in settings:
        walls = sorted(wall for wall, _ in found[name, others])
        wall, processor = statistics.median(walls), statistics.median(used for _, used in found[name, others])
        share = f"{wall / statistics.median(w for w, _ in found[name, 0]) / fair:.2f}" if others else ""
        every = ", ".join(f"{each:.1f}" for each in walls)
        print(f"| {name} | {others} | {wall:.1f} | {every} | {processor:.1f} | {wall / alone:.2f} | {share} |")


if __name__ == "__main__":
    main()
