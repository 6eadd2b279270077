"""Fine-tuning against training from scratch: a RepVGG of half of CIFAR-10's classes, and few images of the other half.

    python studies/fine_tune.py DATA                   # trains what is missing, then writes the table
    python studies/fine_tune.py DATA --table           # only the table, of what is there

DATA is CIFAR-10 as a folder of class folders. The network is trained on 1,000 images of each of five classes; every arm
then trains on 20 of each of the other five, for as many updates, and is evaluated on 60 others of each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from repfold.schedule import fine_tuning_lr
from repfold.train import Recipe, train

IMAGES, VALIDATION, EPOCHS, BATCH = 20, 60, 30, 20
NETWORK = {"model": "repvgg-pico", "preset": "32px", "precision": "fp32", "threads": 1}
TUNED = {"data_seed": 0, "per_class": (IMAGES, VALIDATION), "epochs": EPOCHS, "batch": BATCH, "train_sample": 100}
ARMS: dict[str, dict[str, object]] = {
    "from scratch, lr 0.05": {"lr": 0.05, "warmup": "3ep"},
    "from scratch, lr 0.0125": {"lr": 0.0125, "warmup": "3ep"},
    "the guide's rate": {"init": True, "lr": 0.0},
    "the guide's rate, classifier x 10": {"init": True, "lr": 0.0, "head_rate": 10.0},
    "the guide's rate, classifier x 100": {"init": True, "lr": 0.0, "head_rate": 100.0},
    "the same, classifier first": {"init": True, "lr": 0.0, "head_rate": 100.0, "head_first": "10ep"},
    "20 times the guide's rate": {"init": True, "lr": 20 * fine_tuning_lr(100, BATCH)},
    "20 times, each layer 0.7 of the next": {"init": True, "lr": 20 * fine_tuning_lr(100, BATCH), "layer_decay": 0.7},
    "100 times the guide's rate": {"init": True, "lr": 100 * fine_tuning_lr(100, BATCH)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arm", type=int, help="train this arm alone")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/fine-tune"))
    options = parser.parse_args()
    halves = split(options.data, options.runs / "data")
    before = options.runs / "before"
    if not options.table:
        first = Recipe(data=str(halves[0]), per_class=(1000, 60), epochs=10, warmup="2ep", train_sample=200, **NETWORK)
        run(first, before)
    for seed in options.seeds:
        for number, settings in enumerate(ARMS.values()):
            if not options.table and options.arm in (None, number):
                given = settings | ({"init": str(before)} if settings.get("init") else {})
                recipe = Recipe(data=str(halves[1]), seed=seed, **NETWORK, **TUNED)
                run(recipe.replace(**given), options.runs / f"{number}-{seed}")
    print(table(options.runs))


def split(data: Path, into: Path) -> tuple[Path, Path]:
    """Two folders of links to every other class."""
    for part in ("train", "val"):
        for number, source in enumerate(sorted((data / part).iterdir())):
            link = into / "ab"[number % 2] / part / source.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(source.resolve())
    return into / "a", into / "b"


def run(recipe: Recipe, directory: Path) -> None:
    records = directory / "record.jsonl"
    if not records.exists() or len(records.read_text().splitlines()) < recipe.epochs:
        done = train(recipe, directory, resume=records.exists())
        print(f"{directory}: {done.records[-1]['val_top1']:.1f} %", file=sys.stderr)


def table(runs: Path) -> str:
    """Of every arm the last epoch's top-1 as mean ± standard deviation, and the differences to the first arm's."""
    found = {number: scores(runs, number) for number in range(len(ARMS))}
    lines = ["| arm | n | top-1, % | training images right, % | minus from scratch, by seed |", "|---|---|---|---|---|"]
    for number, name in enumerate(ARMS):
        pairs = {seed: score[0] - found[0][seed][0] for seed, score in found[number].items() if seed in found[0]}
        cells = [spread([score[at] for score in found[number].values()]) for at in (0, 1)]
        differences = ", ".join(f"{pairs[seed]:+.1f}" for seed in sorted(pairs))
        lines.append(f"| {name} | {len(found[number])} | {cells[0]} | {cells[1]} | {differences} |")
    return "\n".join(lines)


def scores(runs: Path, number: int) -> dict[int, tuple[float, float]]:
    found = {}
    for path in sorted(runs.glob(f"{number}-*/record.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        if len(records) == EPOCHS:
            found[int(path.parent.name.partition("-")[2])] = (records[-1]["val_top1"], records[-1]["train_top1"])
    return found


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return ", ".join(f"{value:.1f}" for value in values) or "-"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


if __name__ == "__main__":
    main()
