"""RepFold's engine against ONNX Runtime and OpenVINO on one network of every family of a zoo, which nobody here wrote.

python benchmarks/engine_coverage.py --zoo pytorchcv   # first: folds and saves them, below runs/coverage
python benchmarks/engine_zoo.py --zoo pytorchcv --out docs/results/engine_speed_pytorchcv.md
python benchmarks/engine_zoo.py --zoo timm convnext    # some families

What is timed is kept in runs/coverage/ZOO/times.json, and only what is missing there is timed when no family is named.
Float32, one image of 224 px where the file takes that and else of the size that it was saved with, one thread, CPU
time: medians of interleaved rounds. A network that a peer cannot load is compared with the other.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from engine_peers import OURS, Folded, build
from engines import compare
from repfold import atomic, engine, models, processor
from repfold.deploy import export_onnx
from repfold.errors import RepFoldError

PEERS = ("ONNX Runtime", "OpenVINO")
SIDE = 224


def image(family: Path) -> np.ndarray:
    """An image that the file takes."""
    saved = np.load(family.with_suffix(".npz"))["input"][:1]
    large = np.random.default_rng(0).standard_normal((1, saved.shape[1], SIDE, SIDE)).astype(np.float32)
    try:
        engine.load(family, threads=1)(large)
    except engine.EngineError:
        return saved
    return large if min(saved.shape[2:]) > 64 else saved  # smaller ones are of networks for small images


@dataclass(frozen=True)
class Row:
    """The side of the images, and of each engine the milliseconds of every round."""

    side: int
    times: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.times[name])

    def ratios(self) -> list[float]:
        """How many times as fast as the fastest peer, in each round, from the lowest; none where no peer loads it."""
        peers = [name for name in PEERS if name in self.times]
        if not peers:
            return []
        rounds = zip(self.times[min(peers, key=self.median)], self.times[OURS], strict=True)
        return sorted(peer / ours for peer, ours in rounds)

    def told(self) -> str:
        """The median of the ratios, with the interval that leaves out a tenth on either side."""
        ratios = self.ratios()
        if not ratios:
            return ""
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


def timed(family: Path, rounds: int) -> Row:
    x_NCHW = image(family)
    onnx = family.with_suffix(".onnx")
    export_onnx(models.load(family).eval(), torch.from_numpy(x_NCHW), onnx)
    side = x_NCHW.shape[-1]
    runs = build(Folded(family.stem, family, onnx, side), x_NCHW, 1, "fp32", [OURS, *PEERS])
    onnx.unlink()
    return Row(side, compare(runs, rounds, time.process_time, rest=0))


def table(zoo: str, rows: dict[str, Row]) -> str:
    rounds = min(len(row.times[OURS]) for row in rows.values())
    medians = {family: statistics.median(ratios) for family, row in rows.items() if (ratios := row.ratios())}
    under = sum(ratio < 0.9 for ratio in medians.values())
    lines = [
        f"# {zoo} in RepFold's engine and others: speed",
        "",
        f"`python benchmarks/engine_zoo.py --zoo {zoo} --rounds {rounds}`",
        "",
        f"{len(medians)} families; against the faster of {' and '.join(PEERS)}: median "
        f"{statistics.median(medians.values()):.2f} times as fast, lowest {min(medians.values()):.2f}, "
        f"{under} under 0.9.",
        "",
        f"One folded network a family, random weights, one image, one thread, float32. Milliseconds of CPU time, "
        f"medians of at least n = {rounds} interleaved rounds; of the ratio in each round, the median and what a tenth "
        f"of the rounds lies below and above. Families of the zoo that are not listed were not timed. "
        f"{processor.name()}, Python {platform.python_version()}, ONNX Runtime {version('onnxruntime')}, "
        f"OpenVINO {version('openvino')}.",
        "",
        f"| family | px | {OURS} | {' | '.join(PEERS)} | times as fast |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for family, row in sorted(rows.items(), key=lambda item: medians.get(item[0], 0)):
        cells = [f"{row.median(name):.2f}" if name in row.times else "" for name in (OURS, *PEERS)]
        lines.append(f"| {family} | {row.side} | {' | '.join(cells)} | {row.told()} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--zoo", default="pytorchcv")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None, help="a Markdown file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path("runs/coverage") / options.zoo
    found = [folder / f"{family}.safetensors" for family in options.families] or sorted(folder.glob("*.safetensors"))
    kept = folder / "times.json"
    rows = {name: Row(**row) for name, row in json.loads(kept.read_text()).items()} if kept.exists() else {}
    for family in found:
        if family.stem in rows and not options.families:
            continue
        try:
            row = timed(family, options.rounds)
        except (RepFoldError, OSError, RuntimeError) as error:
            print(f"{family.stem}: {' '.join(str(error).split())[:200]}", flush=True)
            continue
        rows[family.stem] = row
        told = ", ".join(f"{name} {row.median(name):.2f} ms" for name in row.times)
        print(f"{family.stem}, {row.side} px: {told}; {row.told()} times as fast", flush=True)
        atomic.write_text(kept, json.dumps({name: asdict(row) for name, row in rows.items()}))
    if not rows:
        raise SystemExit(f"No network of {options.zoo} is saved in {folder}: run benchmarks/engine_coverage.py first.")
    text = table(options.zoo, rows)
    if options.out:
        atomic.write_text(options.out, text)
    print(text.splitlines()[4])


if __name__ == "__main__":
    main()
