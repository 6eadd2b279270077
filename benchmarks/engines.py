"""RepFold's engine against the fastest others: folded networks, interleaved rounds, medians and spread.

pip install openvino onnxruntime MNN ncnn pnnx
python benchmarks/engines.py --out docs/results/engines.json   # half an hour on a quiet machine
python benchmarks/engines.py --nets repvgg-a0 --batch 1 --threads 1 --precision fp32
python benchmarks/engines.py --nets mobilenetv2_w1 --threads 1 --clock cpu   # on a machine that others use, too

`pip install --no-deps pytorchcv` brings the networks that RepFold has no table of (it would bring torchvision).
One round runs every engine once, in an order of its own. Before each measurement all rest until the threads of the
others, some of which spin for 200 ms after their last call, are asleep; an untimed call wakes the engine's own, and
then calls are repeated for at least 30 ms. `--clock cpu` counts the process's CPU time, which waits for
nobody: for one thread only, since threads that spin count as well. Errors are those of the logits against PyTorch in
float64, relative to the largest logit. Weights are random, with the statistics of trained networks left out: the time
of a dense network does not depend on them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine_peers import ENGINES, OURS, Folded, Run, build
from repfold import atomic, models
from repfold.deploy import describe_machine, export_onnx
from repfold.fold import fold

SHORTEST_SECONDS = 0.03
REST_SECONDS = 0.25
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
# name -> (network, preset, side of the image)
NETS = {
    **{
        name: (name, "imagenet", 224)
        for name in (
            *("repvgg-a0", "repvgg-a2", "repvgg-b1", "resnet50", "vgg16", "resnet18"),
            *("mobileone-s0", "mobileone-s1", "mobileone-s4"),
        )
    },
    "repvgg-a0-cifar": ("repvgg-a0", "32px", 32),
    "repvgg-pico": ("repvgg-pico", "32px", 8),
    **{
        name: (f"pytorchcv.models.{module}:{name}", "imagenet", 299 if module == "inceptionv3" else 224)
        for module, name in (
            ("regnet", "regnetx002"),
            ("inceptionv3", "inceptionv3"),
            ("densenet", "densenet121"),
            ("mobilenet", "mobilenet_w1"),
            ("mobilenetv2", "mobilenetv2_w1"),
            ("mobilenetv3", "mobilenetv3_large_w1"),
            ("shufflenetv2", "shufflenetv2_w1"),
            ("efficientnet", "efficientnet_b0"),
            ("ghostnet", "ghostnet"),
            ("squeezenet", "squeezenet_v1_1"),
        )
    },
}
LARGE_BATCHES = {"repvgg-a0"}  # networks that are timed with more than 8 images at once, too


def make(name: str, folder: Path) -> tuple[Folded, torch.nn.Module]:
    """Create, fold, save and export a network; also its float64 form, for the error."""
    torch.manual_seed(0)
    architecture, preset, side = NETS[name]
    network = models.create(architecture, num_classes=10 if preset == "32px" else 1000, preset=preset)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    x = torch.randn(2, 3, side, side)
    plain, _ = fold(network.eval(), x)
    net = Folded(name, folder / f"{name}.safetensors", folder / f"{name}.onnx", side)
    models.save(plain, net.safetensors)
    export_onnx(plain, x, net.onnx)
    return net, plain.double()


def measure(run: Run, repeats: int, clock: Callable[[], float], rest: float = REST_SECONDS) -> float:
    """Milliseconds a call."""
    time.sleep(rest)
    run()
    start = clock()
    for _ in range(repeats):
        run()
    return 1000 * (clock() - start) / repeats


def compare(
    runs: dict[str, Run], rounds: int, clock: Callable[[], float], rest: float = REST_SECONDS
) -> dict[str, list[float]]:
    """Rounds of all engines, each in a random order."""
    once = {name: measure(run, 1, clock, rest) for name, run in runs.items()}
    repeats = {name: max(1, round(1000 * SHORTEST_SECONDS / took)) for name, took in once.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    shuffle = random.Random(0)
    for _ in range(rounds):
        for name in shuffle.sample(list(runs), len(runs)):
            times[name].append(measure(runs[name], repeats[name], clock, rest))
    return times


def errors_of(logits: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """The largest error relative to the largest logit; the root mean square error relative to the logits' own."""
    difference = np.abs(logits.reshape(exact.shape) - exact)
    return float(difference.max() / np.abs(exact).max()), float(np.sqrt((difference**2).mean() / (exact**2).mean()))


def configuration(
    net: Folded,
    exact: torch.nn.Module,
    batch: int,
    threads: int,
    precision: str,
    names: list[str],
    rounds: int,
    clock: str = "wall",
) -> list[dict[str, Any]]:
    """One row an engine."""
    x = np.random.default_rng(0).standard_normal((batch, 3, net.image_size, net.image_size)).astype(np.float32)
    torch.set_num_threads(max(2, threads))
    with torch.inference_mode():
        expected = exact(torch.from_numpy(x[:2]).double()).numpy()
    runs = build(net, x, threads, precision, names)
    errors = {name: errors_of(np.asarray(run())[:2], expected) for name, run in runs.items()}
    torch.set_num_threads(threads)
    times = compare(runs, rounds, CLOCKS[clock])
    peers = [statistics.median(values) for name, values in times.items() if name != OURS]
    rows = []
    for name, values in times.items():
        tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
        row = {
            "network": net.name, "batch": batch, "threads": threads, "precision": precision, "clock": clock,
            "engine": name, "median_ms": statistics.median(values), "low_ms": tenths[0], "high_ms": tenths[-1],
            "n": len(values),
            "error": errors[name][0], "rms_error": errors[name][1],
        }  # fmt: skip
        if name == OURS and peers:
            row["times_faster"] = min(peers) / row["median_ms"]
        rows.append(row)
        faster = f"  {row['times_faster']:.2f}x the fastest other" if "times_faster" in row else ""
        print(
            f"{net.name:16s} batch {batch:<3d} threads {threads} {precision} {name:14s} {row['median_ms']:9.2f} ms "
            f"({row['low_ms']:.2f} to {row['high_ms']:.2f}, n={row['n']}) "
            f"error {row['error']:.1e} (rms {row['rms_error']:.1e}){faster}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.nets:
            net, exact = make(name, Path(folder))
            for batch, threads, precision in itertools.product(arguments.batch, arguments.threads, arguments.precision):
                if batch > 8 and name not in LARGE_BATCHES:
                    continue
                rows += configuration(
                    net, exact, batch, threads, precision, arguments.engines, arguments.rounds, arguments.clock
                )
                if arguments.out:
                    result = {"machine": describe_machine(), "load": os.getloadavg(), "rows": rows}
                    atomic.write_text(arguments.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
