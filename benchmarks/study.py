"""What a study costs beyond its trainings: a trial's overhead, and the report of many trials.

    python benchmarks/study.py overhead [--pairs 5] [--epochs 30]
    python benchmarks/study.py report [--trials 1000]
    python benchmarks/study.py jobs [--pairs 5] [--epochs 10]

overhead: the digits recipe, by ``repfold train --no-finish`` and as a trial of a study of one arm, one after the other,
a seed a pair. Told: the seconds of all epochs, with which the watch on the code could interfere, as the ratio of each
pair; and what a trial takes besides its epochs. report: page and table of so many finished trials, which are copies of
one. jobs: two trials at a time on one thread each, against one at a time on two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
name = "cost"
recipe = "digits"
seeds = {seeds}
reference = "usual"
metric = "val_top1"
[settings]
device = "cpu"
epochs = {epochs}
[arms.usual]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "report", "jobs"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--trials", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="repfold-study-") as scratch:
        {"overhead": overhead, "report": report, "jobs": jobs}[given.what](given, Path(scratch))


def overhead(given: argparse.Namespace, place: Path) -> None:
    ratios, besides, alone_besides = [], [], []
    for seed in range(given.pairs):
        settings = f"--recipe digits --epochs {given.epochs} --seed {seed} --data-seed 0 --val-precision last-fp32"
        words = f"train {settings} --device cpu --threads 1 --no-finish"
        began = time.perf_counter()
        repfold(*words.split(), "--out", str(place / f"alone-{seed}"))
        took = time.perf_counter() - began
        lines = (place / f"alone-{seed}" / "record.jsonl").read_text().splitlines()
        alone = sum(json.loads(line)["seconds"] for line in lines)
        study(place, [seed], given.epochs, "--jobs", "1", "--threads", "1")
        found = (json.loads(path.read_text()) for path in place.glob("trials/*/trial.json"))
        trial = next(one for one in found if one["seed"] == seed)
        ratios.append(trial["seconds"] / alone)
        besides.append(trial["overhead"])
        alone_besides.append(took - alone)
        print(f"seed {seed}: epochs {alone:.1f} s alone, {trial['seconds']:.1f} s as a trial", flush=True)
    print(f"epochs of a trial / of repfold train: {told(ratios)}, n = {given.pairs}")
    print(f"a trial's seconds besides its epochs: {told(besides)}; of repfold train: {told(alone_besides)}")


def report(given: argparse.Namespace, place: Path) -> None:
    from repfold.study import rounds, study_file
    from repfold.study.store import Store

    study(place, [0], given.epochs)
    text = STUDY.format(seeds=given.trials, epochs=given.epochs)
    (place / "many.toml").write_text(text)
    store = Store(place / "trials")
    trials = [of_seed[0] for of_seed in rounds.rounds(study_file.parse(text), store)]
    finished = store.finished(trials[0])
    assert finished is not None
    for trial in trials[1:]:
        copy = place / "trials" / finished.name.replace(trials[0].key, trial.key)
        shutil.copytree(finished, copy)
        told_ = json.loads((copy / "trial.json").read_text())
        told_["recipe"]["seed"] = trial.seed
        (copy / "trial.json").write_text(json.dumps(told_ | {"seed": trial.seed}))
    seconds = []
    for _ in range(given.pairs):
        began = time.perf_counter()
        repfold("study", "report", str(place / "many.toml"), "--out", str(place / "many"), "--trials", str(store.path))
        seconds.append(time.perf_counter() - began)
    size = (place / "many" / "report.html").stat().st_size / 2**20
    table = json.loads((place / "many" / "table.json").read_text())
    print(f"{sum(row['n'] for row in table)} trials of {given.epochs} epochs: {told(seconds)} s, {size:.1f} MiB")


def jobs(given: argparse.Namespace, place: Path) -> None:
    ratios = []
    for pair in range(given.pairs):
        took = {}
        for name, flags in (("apart", "--jobs 2 --threads 1"), ("together", "--jobs 1 --threads 2")):
            began = time.perf_counter()
            seeds = [10 * pair, 10 * pair + 1, 10 * pair + 2, 10 * pair + 3]
            study(place / name, seeds, given.epochs, *flags.split())
            took[name] = time.perf_counter() - began
        ratios.append(took["together"] / took["apart"])
        print(f"{took['apart']:.1f} s on a thread each, {took['together']:.1f} s on two threads", flush=True)
    print(f"one trial on two threads / two trials on one each: {told(ratios)}, n = {given.pairs}")


def study(place: Path, seeds: list[int], epochs: int, *flags: str) -> None:
    place.mkdir(exist_ok=True)
    (place / "cost.toml").write_text(STUDY.format(seeds=seeds, epochs=epochs))
    repfold("study", "run", str(place / "cost.toml"), "--out", str(place / "out"), *flags)


def repfold(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "repfold", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} if "train" in words[:1] else None,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def told(values: list[float]) -> str:
    return f"median {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
