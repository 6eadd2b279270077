"""How RepFold's engine scales with threads, batch and image size, beside OpenVINO and the limit of the multipliers.

python benchmarks/engine_scaling.py --picture docs/engine-scaling.svg --out docs/results/engine_scaling.json

The speed shown is that of the network's own multiply-adds, as a direct convolution has them: 2 x multiply-adds / time.
No direct convolution can be above the limit of the machine's multipliers, which benchmarks/fma_peak.cpp measures (it
needs a C++ compiler) and which is drawn in. Winograd needs fewer multiplications; the dotted line is where the engine
would be if it did nothing but its own multiplications at that limit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from engine_peers import OURS, Folded, build
from engines import compare, make
from repfold import atomic, engine
from repfold.deploy import describe_machine

BATCHES, SIZES = (1, 2, 4, 8, 16, 32), (64, 96, 128, 160, 192, 224, 256, 320)
PEER = "OpenVINO"
COLOURS = {1: "#4477aa", 2: "#cc6677", 4: "#228833", 8: "#aa3377"}


def multiplier_limit(threads: int, folder: Path) -> float:
    """GFLOP/s that the vector units do at most."""
    program, source = folder / "fma_peak", Path(__file__).parent / "fma_peak.cpp"
    flags = ["-O3", "-march=native", "-ffp-contract=fast", "-pthread"]
    subprocess.run(["c++", *flags, str(source), "-o", str(program)], check=True)
    return float(subprocess.run([str(program), str(threads)], check=True, capture_output=True, text=True).stdout)


def work_of(net: Folded, x_NCHW: np.ndarray, threads: int) -> tuple[float, float]:
    """Gigaflops of the network as direct convolutions, and what the engine multiplies of them."""
    plan = engine.load(net.safetensors, threads=threads).plan(*x_NCHW.shape)
    whole = own = 0.0
    for layer in plan["layers"]:
        flops = 2e-9 * layer.get("multiply_adds", 0)
        tile = re.search(r"F\((\d)x(\d),", layer["algorithm"])
        whole += flops
        if tile:
            rows, columns = map(int, tile.groups())
            flops *= (rows + 2) * (columns + 2) / (9 * rows * columns)
        own += flops
    return whole, own


def measure(net: Folded, batch: int, size: int, threads: int, rounds: int, limit: float) -> list[dict[str, Any]]:
    """One row an engine."""
    x = np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)
    whole, own = work_of(net, x, threads)
    times = compare(build(net, x, threads, "fp32", [OURS, PEER]), rounds)
    rows = []
    for name, values in times.items():
        tenths = statistics.quantiles(values, n=10, method="inclusive")
        rows.append(
            {
                "engine": name, "batch": batch, "image_size": size, "threads": threads, "n": len(values),
                "median_ms": statistics.median(values), "low_ms": tenths[0], "high_ms": tenths[-1],
                "gflops": 1000 * whole / statistics.median(values), "own_limit": limit * whole / own,
            }
        )  # fmt: skip
        print(f"{name:10s} batch {batch:2d}, {size} px, {threads} threads: {rows[-1]['gflops']:6.0f} GFLOP/s")
    return rows


def draw(rows: Sequence[dict[str, Any]], limits: dict[int, float], path: Path, title: str) -> None:
    """Speed over batch size (at 224 px) and over image size (at batch 1), a colour for each number of threads."""
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True, layout="constrained")
    for axis, key, fixed, ticks in (
        (axes[0], "batch", ("image_size", 224), BATCHES),
        (axes[1], "image_size", ("batch", 1), SIZES),
    ):
        for threads, limit in limits.items():
            colour = COLOURS.get(threads, "black")
            for name, style in ((OURS, "o-"), (PEER, "s--")):
                of = [r for r in rows if (r["engine"], r["threads"], r[fixed[0]]) == (name, threads, fixed[1])]
                of.sort(key=lambda row: row[key])
                at = [row[key] for row in of]
                label = f"{name}, {threads} thread{'s' * (threads > 1)}"
                axis.plot(at, [row["gflops"] for row in of], style, color=colour, label=label, markersize=4)
                if name == OURS:
                    axis.plot(at, [row["own_limit"] for row in of], ":", color=colour, linewidth=1)
            axis.axhline(limit, color=colour, linewidth=1)
            axis.annotate("limit of direct convolution", (ticks[0], limit), fontsize=7, color=colour, va="bottom")
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel({"batch": "batch, at 224 px", "image_size": "image size (px), at batch 1"}[key])
        axis.set_ylim(0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("GFLOP/s of the network's own multiply-adds")
    axes[1].legend(fontsize=8, loc="upper left")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="repvgg-a0")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--picture", type=Path, default=Path("docs/engine-scaling.svg"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/engine_scaling.json"))
    arguments = parser.parse_args()
    wanted = [(batch, 224) for batch in BATCHES] + [(1, size) for size in SIZES if size != 224]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        limits = {threads: multiplier_limit(threads, Path(folder)) for threads in arguments.threads}
        net, _ = make(arguments.net, Path(folder))
        for threads, limit in limits.items():
            for batch, size in wanted:
                rows += measure(net, batch, size, threads, arguments.rounds, limit)
    machine = describe_machine()
    result = {"network": arguments.net, "machine": machine, "limits_gflops": limits, "rows": rows}
    atomic.write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    title = f"{arguments.net}, float32, {machine['processor']}; medians of {arguments.rounds} rounds"
    draw(rows, limits, arguments.picture, title)


if __name__ == "__main__":
    main()
