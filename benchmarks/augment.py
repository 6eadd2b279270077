"""Time the augmentation of one batch on one core: RepFold's and kornia's in turns, and a training step beside them.

pip install kornia                                                   # only for the comparison
OMP_NUM_THREADS=1 python benchmarks/augment.py --out docs/results/augment.md

The batch is uint8 [128, 3, 32, 32]; the work is flip, padded crop, RandAugment (2 layers, 9 of 10), Cutout, CutMix.
kornia draws the operations of RandAugment once for a batch, RepFold for each image; kornia works on floats in [0, 1],
whose making from uint8 is counted. The training step is RepVGG-A0's (forward, backward, SGD) at the same size.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from repfold import atomic, models, processor
from repfold.data import augment
from repfold.data.augment import Mixing

BATCH, SIDE, CLASSES = 128, 32, 10
LINKS = ("flip", "crop", "randaugment:layers=2,magnitude=9", "cutout:size=0.5")
Work = Callable[[], object]


def ours(x_NCHW: torch.Tensor, labels_B: torch.Tensor) -> dict[str, Work]:
    """Each link by itself, CutMix, and all of them in a row."""
    generator = torch.Generator().manual_seed(0)
    cutmix, chain = Mixing(cutmix=1.0), augment.parse("+".join(LINKS))
    works: dict[str, Work] = {}
    for link in LINKS:
        works[link.partition(":")[0]] = partial(augment.parse(link), x_NCHW, generator)
    works["cutmix"] = lambda: cutmix(x_NCHW, labels_B, generator)
    works["all, RepFold"] = lambda: cutmix(chain(x_NCHW, generator), labels_B, generator).targets(CLASSES)
    return works


def kornias(x_NCHW: torch.Tensor, labels_B: torch.Tensor) -> dict[str, Work]:
    """The same in kornia: all of it, and all but RandAugment."""
    import kornia.augmentation as k
    from kornia.augmentation.auto import RandAugment

    simple = [k.RandomHorizontalFlip(p=0.5), k.RandomCrop((SIDE, SIDE), padding=SIDE // 8)]
    hide = k.RandomErasing(scale=(0.25, 0.25), ratio=(1.0, 1.0), p=1.0)
    policy, cutmix = RandAugment(n=2, m=27), k.RandomCutMixV2(p=1.0, use_correct_lambda=True)

    def run(*steps: Callable[[torch.Tensor], torch.Tensor]) -> None:
        x = x_NCHW.float() / 255
        for step in steps:
            x = step(x)
        cutmix(x, labels_B)

    return {
        "all, kornia": lambda: run(*simple, policy, hide),
        "all but RandAugment, kornia": lambda: run(*simple, hide),
    }


def training_step(x_NCHW: torch.Tensor, labels_B: torch.Tensor) -> dict[str, Work]:
    """One step of RepVGG-A0 at the batch's size, in float32."""
    network = models.create("repvgg-a0", num_classes=CLASSES, preset="32px").train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    x = (x_NCHW.float() / 255 - 0.5).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(x), labels_B).backward()
        optimizer.step()

    return {"training step, RepVGG-A0": step}


def measure(works: dict[str, Work], rounds: int, slow_rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each work, taken in turns; those above 200 ms are taken ``slow_rounds`` times."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for name, work in works.items():  # warm-up, and which of them are slow
        began = time.perf_counter()
        work()
        slow = time.perf_counter() - began > 0.2
        times[name] = [] if not slow else [float("nan")] * (rounds - slow_rounds)
    for _ in range(rounds):
        for name, work in works.items():
            if len(times[name]) < rounds:
                began = time.perf_counter()
                work()
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: [value for value in values if value == value] for name, values in times.items()}


def table(times: dict[str, list[float]]) -> str:
    """Return the medians with their spread as a Markdown table, and the machine."""
    lines = ["| work | median ms | 10 % | 90 % | n |", "|---|---:|---:|---:|---:|"]
    for name, values in times.items():
        tenths = statistics.quantiles(values, n=10)
        lines.append(
            f"| {name} | {statistics.median(values):.2f} | {tenths[0]:.2f} | {tenths[-1]:.2f} | {len(values)} |"
        )
    cores = f"{torch.get_num_threads()} thread of {os.cpu_count()} cores"
    machine = f"{processor.name()}, {cores}, PyTorch {torch.__version__}"
    load = f"load average {os.getloadavg()[0]:.1f} at the end (this process adds 1)"
    return "\n".join([*lines, "", f"uint8 [{BATCH}, 3, {SIDE}, {SIDE}]; {machine}; {load}.", ""])


def main() -> None:
    """Measure and print, or write, the table; exit with 1 when all of RepFold's takes longer than ``--limit``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--slow-rounds", type=int, default=15, help="rounds of what takes more than 200 ms")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=25.0, help="milliseconds that all of RepFold's may take")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x_NCHW = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    labels_B = torch.randint(0, CLASSES, (BATCH,))
    works = ours(x_NCHW, labels_B)
    if importlib.util.find_spec("kornia"):
        works |= kornias(x_NCHW, labels_B)
    else:
        print("kornia is not installed: measured without it.", file=sys.stderr)
    works |= training_step(x_NCHW, labels_B)
    times = measure(works, options.rounds, options.slow_rounds)
    text = table(times)
    print(text)
    if options.out:
        atomic.write_text(options.out, text)
    sys.exit(statistics.median(times["all, RepFold"]) > options.limit)


if __name__ == "__main__":
    main()
