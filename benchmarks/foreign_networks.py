"""Fold networks that nobody here wrote, one of every family of a zoo: what is executed before and after, the outputs,
the speed. What a zoo needs installed is said in its file in zoos/; each may have a virtual environment of its own.

python benchmarks/foreign_networks.py --zoo timm --out docs/results/timm.md     # every family; a rerun does the rest
python benchmarks/foreign_networks.py --zoo timm repvgg densenet --rounds 15    # some
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from foreign_fold import measure
from foreign_table import Results, row
from zoos import ZOOS


def _in_child(zoo: str, family: str, rounds: int, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    pipe.send(measure(zoo, family, rounds))


def run(zoo: str, family: str, rounds: int, threads: int, limit: float) -> dict[str, Any]:
    """Measure in a process of its own: a family that needs too much memory or time ends alone."""
    ours, theirs = multiprocessing.Pipe()
    arguments = (zoo, family, rounds, threads, theirs)
    child = multiprocessing.get_context("spawn").Process(target=_in_child, args=arguments)
    child.start()
    theirs.close()  # so that a child that is killed is noticed
    start = time.perf_counter()
    try:
        result = ours.recv() if ours.poll(limit) else {"family": family, "late": f"took more than {limit:.0f} s"}
    except EOFError:
        result = {"family": family, "late": "its process ended without a word (out of memory?)"}
    child.kill()
    child.join()
    return {**result, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--zoo", choices=sorted(ZOOS), default="pytorchcv")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="families at once; more than 1 disturbs the timings")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one family")
    parser.add_argument("--again", action="store_true", help="also what the JSON beside the table has already")
    parser.add_argument("--out", type=Path, default=None, help="a Markdown file; the figures go beside it as JSON")
    options = parser.parse_args()
    known = list(importlib.import_module(ZOOS[options.zoo]).FAMILIES)
    if unknown := sorted(set(options.families) - set(known)):
        parser.error(f"{options.zoo} has no family {', '.join(unknown)}. It has: {', '.join(known)}")
    results = Results(options.zoo, known, options.out, options.rounds, options.threads)
    wanted = [name for name in options.families or known if options.again or name not in results.of]
    with ThreadPoolExecutor(options.jobs) as pool:
        job = lambda family: run(options.zoo, family, options.rounds, options.threads, options.limit)  # noqa: E731
        for result in pool.map(job, wanted):
            results.add(result)
            print(row(result), flush=True)
    print("\n" + "\n".join(results.summary()))


if __name__ == "__main__":
    main()
