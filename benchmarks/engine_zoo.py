"""RepFold's engine against ONNX Runtime and OpenVINO on one network of every family of a zoo, which nobody here wrote.

python benchmarks/engine_coverage.py --zoo pytorchcv   # first: folds and saves them, below runs/coverage
python benchmarks/engine_zoo.py --zoo pytorchcv --out docs/results/engine_speed_pytorchcv.md
python benchmarks/engine_zoo.py --zoo timm convnext    # some families

Float32, one image of 224 px where the file takes that and else of the size that it was saved with, one thread, CPU
time: medians of interleaved rounds. A network that a peer cannot load is compared with the other.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
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


def timed(family: Path, rounds: int) -> tuple[int, dict[str, float]]:
    """The side of the image, and the median milliseconds of each engine."""
    x_NCHW = image(family)
    onnx = family.with_suffix(".onnx")
    export_onnx(models.load(family).eval(), torch.from_numpy(x_NCHW), onnx)
    side = x_NCHW.shape[-1]
    runs = build(Folded(family.stem, family, onnx, side), x_NCHW, 1, "fp32", [OURS, *PEERS])
    onnx.unlink()
    times = compare(runs, rounds, time.process_time, rest=0)
    return side, {name: statistics.median(values) for name, values in times.items()}


def faster(times: dict[str, float]) -> float | None:
    peers = [times[name] for name in PEERS if name in times]
    return min(peers) / times[OURS] if peers else None


def table(zoo: str, rounds: int, rows: dict[str, tuple[int, dict[str, float]]]) -> str:
    ratios = [ratio for _, times in rows.values() if (ratio := faster(times)) is not None]
    under = sum(ratio < 0.9 for ratio in ratios)
    lines = [
        f"# {zoo} in RepFold's engine and others: speed",
        "",
        f"`python benchmarks/engine_zoo.py --zoo {zoo} --rounds {rounds}`",
        "",
        f"{len(ratios)} families; against the faster of {' and '.join(PEERS)}: median {statistics.median(ratios):.2f} "
        f"times as fast, lowest {min(ratios):.2f}, {under} under 0.9.",
        "",
        f"One folded network a family, random weights, one image, one thread, float32. Milliseconds of CPU time, "
        f"medians of n = {rounds} interleaved rounds. Families of the zoo that are not listed were not timed. "
        f"{processor.name()}, Python {platform.python_version()}.",
        "",
        f"| family | px | {OURS} | {' | '.join(PEERS)} | times as fast |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for family, (side, times) in sorted(rows.items(), key=lambda row: faster(row[1][1]) or 0):
        cells = [f"{times[name]:.2f}" if name in times else "" for name in (OURS, *PEERS)]
        ratio = faster(times)
        lines.append(f"| {family} | {side} | {' | '.join(cells)} | {'' if ratio is None else f'{ratio:.2f}'} |")
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
    rows: dict[str, tuple[int, dict[str, float]]] = {}
    for family in found:
        try:
            side, times = timed(family, options.rounds)
        except (RepFoldError, OSError, RuntimeError) as error:
            print(f"{family.stem}: {' '.join(str(error).split())[:200]}", flush=True)
            continue
        rows[family.stem] = side, times
        told = ", ".join(f"{name} {milliseconds:.2f} ms" for name, milliseconds in times.items())
        print(f"{family.stem}, {side} px: {told}; {faster(times) or 0:.2f} times as fast", flush=True)
        if options.out:
            atomic.write_text(options.out, table(options.zoo, options.rounds, rows))
    if not rows:
        raise SystemExit(f"No network of {options.zoo} is saved in {folder}: run benchmarks/engine_coverage.py first.")
    print(table(options.zoo, options.rounds, rows).splitlines()[4])


if __name__ == "__main__":
    main()
