"""The table of a sweep over networks that nobody here wrote: one row a family, then what they come to."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from repfold import processor

SLOWER = 0.97
COLUMNS = (
    "family",
    "network",
    "norms after a convolution",
    "norms",
    "products",
    "G multiply-adds",
    "regions",
    "left, and why",
    "caveats",
    "error",
    "difference",
    "M parameters",
    "ms, batch 1",
    "fold s",
    "flags",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"
ENDED_EARLY = {
    "unbuilt": "cannot be built",
    "refused": "refused",
    "raw_error": "RAW ERROR",
    "late": "NO RESULT",
    "wrong": "WRONG",
}

NOTE = """\
One network a family, random weights, norm statistics as after training. Counted by dispatch on a real forward:
`norms after a convolution` are those that alone read what a convolution or linear layer wrote (in brackets, those among
them that cannot go: the convolution's weights serve other calls too); `products` are convolutions and matrix products.
`error` is the certificate's; `difference` is the sweep's own, of every output leaf on another random input of the same
size, a batch of 3, a larger, a smaller and an odd size, where the network takes them; above 1e-4, where a network
amplifies rounding, its float64 twin is folded, and must agree to 1e-8. Both are relative to the largest output.
Times: {clock} with {threads} thread(s), medians of {rounds} interleaved rounds; a ratio below {slower} is measured
again with three times the rounds. {machine}
"""


def norms_after(result: dict[str, Any]) -> int:
    """The norms left of those that could go: that read a convolution, without those whose convolution others read."""
    before = result["before"]
    return max(0, int(result["after"]["reading"] - (before["reading"] - before["following"])))


def flags(result: dict[str, Any]) -> list[str]:
    """What must not be."""
    found = [word for key, word in ENDED_EARLY.items() if key in result]
    if "after" in result:
        before, after = result["before"], result["after"]
        if norms_after(result) > before["bound"]:
            found.append(f"{norms_after(result) - before['bound']} norms left")
        found += [f"more {key.replace('_', '-')}" for key in _COSTS if after[key] > before[key]]
    if result.get("touched"):
        found.append("TOUCHED the original")
    if result.get("refuses"):
        found.append(f"refuses: {', '.join(result['refuses'])}")
    if result.get("dull"):
        found.append("outputs say nothing")
    if "milliseconds" in result and result["milliseconds"][0] / result["milliseconds"][1] < SLOWER:
        found.append("slower")
    return found


_COSTS = ("convolutions", "products", "multiply_adds")


def row(result: dict[str, Any]) -> str:
    return "| " + " | ".join(_cells(result)) + " |"


def _cells(result: dict[str, Any]) -> list[str]:
    before, after = result.get("before", {}), result.get("after", {})

    def both(key: str, scale: float = 1.0, form: str = "d") -> str:
        value = lambda side: format(side[key] / scale if scale != 1 else side[key], form) if side else ""  # noqa: E731
        return f"{value(before)} -> {value(after)}" if after else value(before)

    following = str(before.get("following", "")) + (f" -> {norms_after(result)}" if after else "")
    following += f" ({before['bound']})" if before.get("bound") else ""
    left = "; ".join(f"{reason} ({count})" for reason, count in result.get("left", {}).items())
    said = next((result[key] for key in ENDED_EARLY if key in result), "")
    parameters, ms = result.get("parameters"), result.get("milliseconds")
    return [
        result["family"],
        result.get("network", ""),
        following,
        both("norms"),
        both("products"),
        both("multiply_adds", 1e9, ".3g"),
        str(result.get("regions", "")),
        _plain(said or left or "-"),
        _plain("; ".join(result.get("caveats", ())) or "-"),
        f"{result['error']:.0e}" if "error" in result else "",
        f"{result['difference']:.0e}{' (float64)' if result['in_float64'] else ''}" if "difference" in result else "",
        f"{parameters[0] / 1e6:.2f} -> {parameters[1] / 1e6:.2f}" if parameters else "",
        f"{ms[0]:.1f} -> {ms[1]:.1f} ({ms[0] / ms[1]:.2f}x)" if ms else "",
        f"{result['fold_seconds']:.1f}" if "fold_seconds" in result else "",
        ", ".join(flags(result)) or "-",
    ]


def _plain(text: str, most: int = 240) -> str:
    return (text if len(text) <= most else text[: most - 1] + "…").replace("|", "/").replace("\n", " ")


class Results:
    """The families measured so far; written after each, so that a sweep can be taken up where it ended."""

    def __init__(self, zoo: str, order: list[str], out: Path | None, rounds: int, threads: int) -> None:
        self.zoo, self.order, self.out, self.rounds, self.threads = zoo, order, out, rounds, threads
        self.of: dict[str, dict[str, Any]] = {}
        if out is not None and out.with_suffix(".json").exists():
            self.of = {result["family"]: result for result in json.loads(out.with_suffix(".json").read_text())}

    def add(self, result: dict[str, Any]) -> None:
        self.of[result["family"]] = result
        if self.out is None:
            return
        title = f"# Networks that nobody here wrote: {self.zoo}"
        command = f"`python benchmarks/foreign_networks.py --zoo {self.zoo}`."
        lines = [title, "", *self.summary(), "", command, self.note(), HEAD, *map(row, self.sorted())]
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text("\n".join(lines) + "\n")
        self.out.with_suffix(".json").write_text(json.dumps(self.sorted(), indent=1))

    def sorted(self) -> list[dict[str, Any]]:
        return sorted(self.of.values(), key=lambda result: self.order.index(result["family"]))

    def note(self) -> str:
        return NOTE.format(
            clock="processor time" if self.threads == 1 else "wall clock",
            threads=self.threads,
            rounds=self.rounds,
            slower=SLOWER,
            machine=f"{processor.name() or platform.machine()}, torch {torch.__version__}.",
        )

    def summary(self) -> list[str]:
        """What the families come to, each line with the families that it counts against."""
        every = self.sorted()
        built = [result for result in every if "unbuilt" not in result]
        normed = [r for r in built if r.get("before", {}).get("following", 0) > r.get("before", {}).get("bound", 0)]
        clean = [r for r in normed if "after" in r and norms_after(r) <= r["before"]["bound"]]
        share = 100 * len(clean) / max(len(normed), 1)
        return [
            f"- {len(built)} families run; {len(normed)} have norms directly after a convolution or linear layer.",
            f"- All of those norms fold in {len(clean)} of {len(normed)} ({share:.1f} %).{_named(normed, clean)}",
            *(f"- {label}: {_list(built, test)}" for label, test in _COUNTED.items()),
        ]


def _costs_more(key: str) -> Callable[[dict[str, Any]], bool]:
    return lambda r: "after" in r and r["after"][key] > r["before"][key]


_COUNTED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "wrong": lambda r: "wrong" in r,
    "folded for fewer sizes than the network takes, and saying so": lambda r: bool(r.get("refuses")),
    "raw errors": lambda r: "raw_error" in r,
    "refused": lambda r: "refused" in r,
    "without a result in time or memory": lambda r: "late" in r,
    "more convolutions executed": _costs_more("convolutions"),
    "more products executed": _costs_more("products"),
    "more multiply-adds executed": _costs_more("multiply_adds"),
    f"slower than {SLOWER}x": lambda r: "slower" in flags(r),
    "original touched": lambda r: bool(r.get("touched")),
    "outputs that say nothing": lambda r: bool(r.get("dull")),
}


def _list(results: list[dict[str, Any]], test: Callable[[dict[str, Any]], bool]) -> str:
    names = [result["family"] for result in results if test(result)]
    return f"{len(names)}{' (' + ', '.join(names) + ')' if names else ''}"


def _named(of: list[dict[str, Any]], without: list[dict[str, Any]]) -> str:
    names = [result["family"] for result in of if result not in without]
    return f" Not all: {', '.join(names)}." if names else ""
