"""Does following advice help? Trains runs that something is wrong with, does what advice says, and trains again.

    python studies/advice.py                 # what is missing, into tests/report/advised
    python studies/advice.py --topic chance

Of each pair the records are kept, that tests read: tests/report/advised/TOPIC/before and after.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tomllib
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from repfold.report.advice import advise
from repfold.report.records import read_runs
from repfold.report.signs import Finding
from repfold.train import Recipe, recipe_file, train

KEPT = Path("tests/report/advised")
FILES = ("record.jsonl", "recipe.toml", "environment.json", "confusion.json")
PLAIN = {"model": "repvgg-pico", "preset": "32px", "precision": "fp32", "threads": 1, "train_sample": 300}
FEW = PLAIN | {"data": "digits", "per_class": (40, 35), "batch": 40}
HEAVY = "randaugment:layers=2,magnitude=9+cutout"
RUNS: dict[str, dict[str, object]] = {
    "slow": FEW | {"epochs": 8, "lr": 3e-4},
    "too-high": FEW | {"epochs": 8, "lr": 4.0},
    "too-short": FEW | {"epochs": 6, "lr": 0.005},
    "underfits": FEW | {"epochs": 12, "lr": 0.05, "augment": HEAVY, "mixup": 0.4, "weight_decay": 1e-3},
    "overfits": FEW | {"per_class": (8, 35), "epochs": 40, "lr": 0.05, "batch": 20, "flip": 0.0, "crop": "centre"},
    "constant": FEW | {"epochs": 20, "lr": 0.1, "schedule": "constant"},
    "no-warm-up": FEW | {"epochs": 24, "lr": 1.0, "warmup": "0ep"},
    "unstable": FEW | {"epochs": 24, "lr": 1.0, "warmup": "3ep"},
    "learns-late": FEW | {"epochs": 24, "lr": 0.6, "warmup": "3ep", "batch": 10},
    "uneven": PLAIN | {"epochs": 12, "lr": 0.05, "batch": 20},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topic", choices=RUNS)
    parser.add_argument("--runs", type=Path, default=Path("runs/advice"))
    options = parser.parse_args()
    for topic in [options.topic] if options.topic else RUNS:
        if not (KEPT / topic / "after").exists():
            follow(topic, options.runs)


def follow(topic: str, runs: Path) -> None:
    """Train, ask, change, train again, and keep the records."""
    recipe = Recipe(**RUNS[topic])
    if topic == "uneven":
        recipe = recipe.replace(data=str(uneven_digits(runs / "digits")))
    before, after = runs / topic / "before", runs / topic / "after"
    for directory in (before, after):
        shutil.rmtree(directory, ignore_errors=True)
    train(recipe, before)
    findings = advise(read_runs([before])[0])
    print(topic, [(finding.topic, finding.changes) for finding in findings])
    train(changed(recipe, findings), after)
    for name, directory in (("before", before), ("after", after)):
        keep(directory, KEPT / topic / name)
        last = json.loads((directory / "record.jsonl").read_text().splitlines()[-1])
        print(f"  {name}: top-1 {last['val_top1']:.1f} %, recall {last['val_recall']:.1f} %", flush=True)


def changed(recipe: Recipe, findings: tuple[Finding, ...]) -> Recipe:
    """The recipe as all findings want it."""
    changes = {change.setting: _toml(recipe, change) for finding in findings for change in finding.changes}
    return recipe_file.from_toml("\n".join(f"{name} = {value}" for name, value in changes.items()), base=recipe)


def _toml(recipe: Recipe, change: object) -> str:
    value = getattr(recipe, change.setting)
    return json.dumps(change.then) if isinstance(value, str) else change.then


def keep(run: Path, into: Path) -> None:
    """The files that advice reads, without what only this machine knows."""
    into.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(run / name, into / name)
    found = json.loads((run / "environment.json").read_text())
    kept = {key: found[key] for key in ("repfold", "commit", "torch", "data")}
    (into / "environment.json").write_text(json.dumps(kept, indent=2) + "\n")
    recipe = tomllib.loads((run / "recipe.toml").read_text())
    lines = [
        line for line in (run / "recipe.toml").read_text().splitlines() if not line.startswith(("data =", "init ="))
    ]
    named = [f"{key} = {json.dumps(Path(recipe[key]).name)}" for key in ("data", "init")]
    (into / "recipe.toml").write_text("\n".join([*named, *lines]) + "\n")


def uneven_digits(folder: Path) -> Path:
    """Digits of which the even ones have 60 training images each, and the odd ones 6; validation has 30 and 15."""
    digits = load_digits()
    for digit in range(10):
        counts = (60, 30) if digit % 2 == 0 else (6, 15)
        images = digits.images[digits.target == digit]
        for number in range(sum(counts)):
            part = "train" if number < counts[0] else "val"
            path = folder / part / str(digit) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((images[number] * 15).astype("uint8")).save(path)
    return folder


if __name__ == "__main__":
    main()
