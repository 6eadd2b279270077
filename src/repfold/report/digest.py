"""The figures of a report in brief: as plain values for machines, as a table for terminals."""

from __future__ import annotations

from typing import Any

from repfold.report import wording
from repfold.report.arms import Arm, spread
from repfold.report.numbers import finite, number
from repfold.report.records import Record, Run
from repfold.report.results import Report
from repfold.report.tables import Table, columns

_SCORES = ("val_top1", "val_top5", "val_precision", "val_recall")


def digest(report: Report) -> dict[str, Any]:
    """Return runs, arms and notes as JSON-able values; ``None`` stands for what is absent or not finite."""
    return {
        "runs": [_run(run) for run in report.runs],
        "arms": [_arm(arm) for arm in report.arms],
        "notes": list(report.notes()),
    }


def digest_table(report: Report) -> Table:
    """Return one row per run: its best and last scores, the error of its fold and the speed-up."""
    heads = columns(
        "run", "#epochs", "#best top-1", "#at epoch", "#last top-1", "#last top-5", "#fold error", "#speed-up"
    )
    return Table(heads, tuple(_row(run) for run in report.runs))


def _row(run: Run) -> tuple[str, ...]:
    times = speed_up(run)
    return (
        run.name,
        str(len(run.epochs)) + (f" of {run.planned}" if run.unfinished else ""),
        wording.percent(number(run.best.get("val_top1"))),
        str(run.best["epoch"]),
        wording.percent(number(run.last.get("val_top1"))),
        wording.percent(number(run.last.get("val_top5"))),
        wording.scientific(number((run.certificate or {}).get("error"))),
        wording.ABSENT if times is None else f"{wording.significant(times, 3)} ×",
    )


def speed_up(run: Run) -> float | None:
    """Return how many times as fast as its train form the run's fastest form was timed; ``None`` without timings."""
    fastest = run.timings.fastest() if run.timings else None
    return run.timings.speed_up(fastest) if run.timings and fastest else None


def _run(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "directory": str(run.directory),
        "epochs": len(run.epochs),
        "planned_epochs": run.planned,
        "best": _scores(run.best),
        "last": _scores(run.last),
        "fold_error": _kept((run.certificate or {}).get("error")),
        "speed_up": speed_up(run),
    }


def _scores(record: Record) -> dict[str, Any]:
    return {"epoch": record["epoch"], **{key: _kept(record.get(key)) for key in _SCORES}}


def _kept(value: object) -> float | None:
    """JSON has no NaN and no ∞."""
    written = number(value)
    return written if finite(written) else None


def _arm(arm: Arm) -> dict[str, Any]:
    def over(records: list[Record]) -> dict[str, Any]:
        spreads = {key: spread(records, key) for key in _SCORES}
        return {key: {"mean": s.mean, "deviation": s.deviation, "n": s.n} if s else None for key, s in spreads.items()}

    best, last = [run.best for run in arm.runs], [run.last for run in arm.runs]
    names = [run.name for run in arm.runs]
    return {"label": arm.label, "n": arm.n, "runs": names, "best": over(best), "last": over(last)}
