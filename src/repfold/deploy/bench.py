"""How long one forward pass takes: forms of one network timed in turns, so that a busy moment hits all alike."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from repfold.deploy.export import onnx_session
from repfold.deploy.machine import describe_machine
from repfold.errors import RepFoldError
from repfold.report.timings import Timing, Timings

# Calls shorter than this are repeated within one measurement, as the clock and the caches would dominate.
_SHORTEST_MS = 2.0
MOST_ROUNDS = 1_000_000


def time_forms(
    forms: Mapping[str, Callable[[], Any]], *, batch: int, rounds: int = 20, threads: int | None = None
) -> Timings:
    """Time every form once a round, in an order that rotates, after one warm-up call of each.

    Args:
        forms: name -> a call that runs one forward pass of ``batch`` images to its end.
        threads: PyTorch's threads while timing; None leaves them as they are. (Other runtimes get theirs from
            whoever builds the form.)

    Raises: RepFoldError without forms or rounds, and for more rounds than anyone waits for.
    """
    if not forms or rounds < 1:
        raise RepFoldError(f"{len(forms)} forms in {rounds} rounds leave nothing to time.")
    if rounds > MOST_ROUNDS:
        raise RepFoldError(f"rounds is more than {MOST_ROUNDS:,}, which would not end: 20 to 100 are enough.")
    with _threads(threads):
        repeats = {name: _repeats(run) for name, run in forms.items()}
        names = list(forms)
        measured: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(rounds):
            for index in range(len(names)):
                name = names[(index + turn) % len(names)]
                measured[name].append(_milliseconds(forms[name], repeats[name]))
        machine = describe_machine()
    return Timings(machine, tuple(_timing(name, batch, measured[name]) for name in names))


def pytorch_form(network: nn.Module, x: torch.Tensor, *, compiled: bool = False) -> Callable[[], Any]:
    """A forward pass of ``network`` in PyTorch, eagerly or through torch.compile."""
    run = torch.compile(network) if compiled else network

    def forward() -> None:
        with torch.inference_mode():
            run(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    return forward


def onnx_form(path: str | os.PathLike[str], x: torch.Tensor, *, threads: int | None = None) -> Callable[[], Any]:
    """A forward pass of an ONNX file in ONNX Runtime on the CPU, with as many threads as PyTorch has by default."""
    session = onnx_session(path, threads=threads or torch.get_num_threads())
    feed = {session.get_inputs()[0].name: x.detach().cpu().numpy()}
    return lambda: session.run(None, feed)


def _repeats(run: Callable[[], Any]) -> int:
    """Warm up; then how often to call for one measurement."""
    run()
    return max(1, math.ceil(_SHORTEST_MS / max(_milliseconds(run, 1), 1e-3)))


def _milliseconds(run: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return 1000 * (time.perf_counter() - start) / repeats


def _timing(name: str, batch: int, measured: list[float]) -> Timing:
    if len(measured) == 1:
        return Timing(name, batch, measured[0], measured[0], measured[0], 1)
    tenths = statistics.quantiles(measured, n=10, method="inclusive")
    return Timing(name, batch, statistics.median(measured), tenths[0], tenths[-1], len(measured))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
