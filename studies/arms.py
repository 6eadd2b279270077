"""Arms of a study: the same training with one thing changed, over several seeds, every run resumable."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Arms = Mapping[str, Sequence[str]]  # name -> what it adds to ``repfold train``

SCORES = {"val_top1": "top-1", "val_top5": "top-5", "val_precision": "mean precision", "val_recall": "mean recall"}


def run_arms(arms: Arms, seeds: Sequence[int], command: Sequence[str], out: Path, hours: float = 24.0) -> None:
    """Train every arm with every seed into ``out/ARM-SEED``, seed by seed, so that an early end leaves whole rounds.

    What is finished is skipped and what was interrupted is resumed; no run is begun after ``hours``.
    """
    began = time.monotonic()
    for seed in seeds:
        for name, flags in arms.items():
            directory = out / f"{name}-{seed}"
            if (directory / "report.html").exists():
                continue
            if time.monotonic() - began > hours * 3600:
                print(f"The time is over before {directory}; run this again to go on.")
                return
            train = [sys.executable, "-m", "repfold", "train", *command, *flags, "--seed", str(seed)]
            subprocess.run([*train, "--resume", "auto", "--out", str(directory)], check=True)


def finished(arms: Arms, out: Path) -> dict[str, list[Path]]:
    """The finished runs, by seed, of every arm that has one."""
    runs = {name: sorted(p.parent for p in out.glob(f"{name}-[0-9]*/report.html")) for name in arms}
    return {name: found for name, found in runs.items() if found}


def table(arms: Arms, out: Path, scores: Mapping[str, str] = SCORES) -> str:
    """A Markdown table: of every arm the last epoch's scores (mean ± standard deviation), n, and minutes of a run.

    The minutes are those of the median epoch, for all epochs: a pause of the machine does not count.
    """
    lines = [f"| arm | n | {' | '.join(scores.values())} | minutes a run |", "|---" * (len(scores) + 3) + "|"]
    for name, runs in finished(arms, out).items():
        records = [_records(run) for run in runs]
        cells = [_spread([record[-1][key] for record in records]) for key in scores]
        minutes = [len(record) * statistics.median(epoch["seconds"] for epoch in record) / 60 for record in records]
        taken = f"{statistics.median(minutes):.1f}" if minutes else "-"
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {taken} |")
    return "\n".join(lines)


def paired(arms: Arms, out: Path, first: str, second: str, key: str = "val_top1") -> str:
    """The difference second − first, seed by seed: its mean, spread and n."""
    runs = finished(arms, out)
    scores = [{_seed(run): _records(run)[-1][key] for run in runs[name]} for name in (first, second)]
    differences = [scores[1][seed] - scores[0][seed] for seed in sorted(set(scores[0]) & set(scores[1]))]
    each = ", ".join(f"{difference:+.2f}" for difference in differences)
    return f"{second} − {first}, {SCORES.get(key, key)}, seed by seed: {each}; mean {_spread(differences)}"


def provenance(arms: Arms, out: Path) -> str:
    """Machine, versions and commit of the runs, one line; several where they differ."""
    found: dict[str, None] = {}
    for run in (run for runs in finished(arms, out).values() for run in runs):
        environment = json.loads((run / "environment.json").read_text())
        told = [f"{key} {environment[key]}" for key in ("cpu", "cores", "torch", "commit") if key in environment]
        found[", ".join(told)] = None
    return "\n".join(found)


def _records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "record.jsonl").read_text().splitlines()]


def _seed(run: Path) -> int:
    return int(run.name.rpartition("-")[2])


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
