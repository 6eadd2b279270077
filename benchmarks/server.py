"""Throughput and latency of one network under several callers at once: RepFold's engine beside ONNX Runtime's session.

python benchmarks/server.py plain.safetensors model.onnx --image-size 96
python benchmarks/server.py --model repvgg-pico --image-size 32 --callers 8 --seconds 3

Every caller waits for its answer before it asks again, as a worker of a web server does. The engines take turns, so
that the machine's drift meets all alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import repfold
from repfold import allowance, engine, processor
from repfold.deploy.export import export_onnx

Call = Callable[[np.ndarray], Any]


def session(path: Path, threads: int) -> Call:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda images: made.run(None, {name: images})[0]


def load(call: Call, images: np.ndarray, callers: int, seconds: float) -> tuple[float, list[float]]:
    """Answers a second, and the milliseconds of each call."""
    times: list[list[float]] = [[] for _ in range(callers)]
    begun = threading.Barrier(callers + 1)
    ended = threading.Event()

    def ask(own: list[float]) -> None:
        call(images)
        begun.wait()
        while not ended.is_set():
            start = time.perf_counter()
            call(images)
            own.append((time.perf_counter() - start) * 1e3)

    workers = [threading.Thread(target=ask, args=(own,)) for own in times]
    for worker in workers:
        worker.start()
    begun.wait()
    start = time.perf_counter()
    time.sleep(seconds)
    ended.set()
    for worker in workers:
        worker.join()
    calls = [took for own in times for took in own]
    return len(calls) / (time.perf_counter() - start), calls


def files(options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    if options.files:
        plain, onnx = options.files
        return plain, onnx
    x = torch.randn(1, 3, options.image_size, options.image_size)
    plain, _ = repfold.fold(repfold.models.create(options.model, num_classes=1000).eval(), x)
    repfold.save(plain, folder / "plain.safetensors")
    return folder / "plain.safetensors", export_onnx(plain, x, folder / "model.onnx").path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="a folded model file and the same network as ONNX")
    parser.add_argument("--model", default="repvgg-a0")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.files and len(options.files) != 2:
        parser.error("give a folded model file and an ONNX file, or --model")
    cores = allowance.cores()
    with tempfile.TemporaryDirectory() as folder:
        plain, onnx = files(options, Path(folder))
        calls = {
            "RepFold, 1 thread a call": engine.load(plain, threads=1),
            f"RepFold, {cores} threads a call": engine.load(plain, threads=cores),
            "ONNX Runtime, 1 thread": session(onnx, 1),
            f"ONNX Runtime, {cores} threads": session(onnx, cores),
        }
        images = np.random.default_rng(0).standard_normal((1, 3, options.image_size, options.image_size), np.float32)
        rates: dict[str, list[float]] = {name: [] for name in calls}
        tails: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(options.rounds):
            for name, call in calls.items():
                rate, times = load(call, images, options.callers, options.seconds)
                rates[name].append(rate)
                tails[name].append(float(np.percentile(times, 99)))
    print(
        f"{processor.name()}, {cores} cores; {options.callers} callers, {options.rounds} rounds of {options.seconds} s"
    )
    for name in calls:
        rate, tail = rates[name], tails[name]
        print(
            f"{name:28} {statistics.median(rate):8.1f} answers/s ({min(rate):.1f} to {max(rate):.1f}), "
            f"p99 {statistics.median(tail):7.1f} ms ({min(tail):.1f} to {max(tail):.1f})"
        )


if __name__ == "__main__":
    main()
