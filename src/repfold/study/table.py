"""The table of a study: as plain values for programs, and as text for people, spreadsheets and papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from repfold.study.metrics import METRICS
from repfold.study.results import ArmResult, Results
from repfold.study.sentences import sentence

Latency = Mapping[str, float]  # arm -> milliseconds of the folded network for one image


def rows(results: Results, latency: Latency) -> list[dict[str, Any]]:
    """Return a dictionary for each arm, in order: what table.json holds."""
    return [_row(arm, results, latency) for arm in (*results.arms, *results.best)]


def _row(result: ArmResult, results: Results, latency: Latency) -> dict[str, Any]:
    found, own = result.comparison, result.arm.is_reference
    low, high = found.bootstrap or (None, None)
    return {
        "arm": result.arm.name,
        "n": len(result.runs),
        "mean": result.mean,
        "std": result.std,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
        "metric": results.study.metric,
        "reference": result.arm.reference,
        "is_reference": own,
        "pairs": found.n,
        "bootstrap_low": low,
        "bootstrap_high": high,
        "probability_better": None if own else found.better,
        "p": None if own else found.p,
        "p_holm": result.holm,
        "seeds_needed": None if own else found.needed,
        "sentence": "" if own else sentence(result, results.study),
        "failed": len(result.failed),
        "seconds": result.seconds,
        "latency_ms": latency.get(result.arm.name),
        "values": {str(run.seed): run.value for run in result.runs},
        "settings": dict(result.arm.changes),
        "published": [vars(one) for one in results.study.published if one.arm in _names(result, results)],
    }


def _names(result: ArmResult, results: Results) -> tuple[str, ...]:
    """What published figures may call the arm; the group stands for it where it is the only one of it."""
    alone = sum(other.arm.group == result.arm.group for other in results.arms) == 1
    return (result.arm.name, result.arm.group) if alone else (result.arm.name,)


@dataclass(frozen=True)
class Column:
    """A column for people: its title, and what it says of a row of ``rows``; ``detail``: terminals do without it."""

    title: str
    text: Callable[[Mapping[str, Any]], str]
    number: bool = True
    detail: bool = False


def columns(results: Results, latency: Latency) -> list[Column]:
    """Return the columns that have something to say in this study."""
    metric = METRICS[results.study.metric]
    unit = f", {metric.unit}" if metric.unit else ""
    made = [
        Column("arm", lambda row: str(row["arm"]), number=False),
        Column("n", lambda row: str(row["n"])),
        Column(f"{metric.title}{unit}", lambda row: spread(row["mean"], row["std"])),
        Column("difference", lambda row: "reference" if row["is_reference"] else signed(row["difference"])),
        Column("95 % interval", _interval),
        Column("P(better)", lambda row: _rounded(row["probability_better"], 3), detail=True),
        Column("p, Holm", lambda row: _rounded(row["p_holm"], 3), detail=True),
        Column("verdict", lambda row: "" if row["is_reference"] else str(row["verdict"]), number=False),
        Column("seeds to decide", _needed),
        Column("minutes a run", lambda row: "" if row["seconds"] is None else f"{row['seconds'] / 60:.2f}"),
    ]
    if results.failed:
        made.insert(2, Column("failed", lambda row: str(row["failed"] or "")))
    if latency:
        made.append(Column("folded, ms an image", lambda row: _rounded(row["latency_ms"], 3)))
    if any(row["published"] for row in rows(results, latency)):
        made.append(Column("published", _published))
    return made


def spread(mean: float | None, deviation: float | None) -> str:
    """Write mean ± standard deviation."""
    if mean is None:
        return ""
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def signed(value: float | None) -> str:
    """Write a difference."""
    return "" if value is None else f"{value:+.2f}"


def _interval(row: Mapping[str, Any]) -> str:
    if row["is_reference"] or row["low"] is None:
        return ""
    return f"[{row['low']:+.2f}, {row['high']:+.2f}]"


def _needed(row: Mapping[str, Any]) -> str:
    if row["is_reference"] or row["verdict"] != "cannot tell" or row["low"] is None:
        return ""
    return "> 10000" if row["seeds_needed"] is None else str(row["seeds_needed"])


def _published(row: Mapping[str, Any]) -> str:
    same = [one for one in row["published"] if one["metric"] == row["metric"]]
    return ", ".join(spread(one["value"], one["std"]) for one in same)


def _rounded(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}" if value >= 10**-digits else f"< {10**-digits:g}"


def to_csv(results: Results, latency: Latency) -> str:
    """Return the table with all digits, a line an arm."""
    content = rows(results, latency)
    plain = [key for key in content[0] if key not in ("values", "settings", "published")]
    out = io.StringIO()
    writer = csv.DictWriter(out, plain, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(content)
    return out.getvalue()


def to_markdown(results: Results, latency: Latency) -> str:
    """Return the table as Markdown."""
    used = columns(results, latency)
    lines = [[column.title for column in used]]
    lines += [[column.text(row) for column in used] for row in rows(results, latency)]
    written = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    written.insert(1, "|" + "|".join("---:" if column.number else "---" for column in used) + "|")
    return "\n".join(written) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", **{sign: f"\\{sign}" for sign in "%&_#{}$"}, "<": "$<$", ">": "$>$"}


def to_latex(results: Results, latency: Latency) -> str:
    """Return the table as a LaTeX tabular with booktabs' rules."""
    used = columns(results, latency)

    def line(cells: list[str]) -> str:
        escaped = ["".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells]
        return " & ".join(escaped) + r" \\"

    body = [line([column.text(row) for column in used]) for row in rows(results, latency)]
    head = line([column.title for column in used])
    kinds = "".join("r" if column.number else "l" for column in used)
    rules = [r"\begin{tabular}{" + kinds + "}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(rules) + "\n"
