"""``repfold schedule``: what learning rates a schedule gives, from the very function that trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.terminal import print_json

if TYPE_CHECKING:
    from repfold.schedule import LearningRate

MOST_STEPS = 10**9

Curve = tuple[list[float], list[float]]  # epochs done, learning rates


def schedule(
    names: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    warmup: str = "0",
    warmup_shape: Literal["linear", "constant", "exponential"] = "linear",
    warmup_mode: Literal["prefix", "overlap"] = "prefix",
    lr: float = 0.1,
    epochs: float = 120,
    steps_per_epoch: int = 100,
    plot: Path | None = None,
    log: bool = False,
    json: bool = False,
) -> None:
    """Print the learning rate at the first step, the end of warm-up, the middle and the last step.

    Args:
        names: Schedules, each by name and arguments: cosine, step:30, warmup-stable-decay:decay=20%.
        warmup: Length of a warm-up before each: 5 or 5ep (epochs), 400it (steps), 5% (of the run).
        warmup_shape: How the warm-up rises.
        warmup_mode: Whether the schedule begins after the warm-up (prefix) or runs under it (overlap).
        lr: Base learning rate.
        epochs: Length of the run.
        steps_per_epoch: Optimizer steps in an epoch.
        plot: Where to draw the schedules over one another, an .svg file.
        log: Draw the learning rate logarithmically.
        json: Print one JSON object.
    """
    from repfold import schedule as schedules
    from repfold.errors import RepFoldError

    if not names:
        raise RepFoldError(f"Name one or more schedules. Known: {', '.join(sorted(schedules.SCHEDULES))}.")
    if not 0 < lr < float("inf"):
        raise RepFoldError(f"--lr {lr}: the base learning rate must be above 0.")
    if not abs(epochs) <= MOST_STEPS or abs(steps_per_epoch) > MOST_STEPS:
        raise RepFoldError(
            f"--epochs {epochs:g} --steps-per-epoch {str(steps_per_epoch)[:20]}: neither may be beyond {MOST_STEPS:,}."
        )
    rows: list[dict[str, Any]] = []
    curves: dict[str, Curve] = {}
    for name in names:
        rate = schedules.learning_rate(lr, name, warmup=warmup, shape=warmup_shape, mode=warmup_mode)
        row, curves[name] = _read(rate, steps_per_epoch, epochs)
        rows.append({"name": name, **row})
    if plot is not None:
        from repfold.report.lr_plot import write_lr_plot

        write_lr_plot(curves, plot, log=log)
    run = {"lr": lr, "epochs": epochs, "steps_per_epoch": steps_per_epoch, "plot": str(plot) if plot else None}
    print_json({**run, "schedules": rows}) if json else _print(rows, plot)


def _read(rate: LearningRate, steps_per_epoch: int, epochs: float) -> tuple[dict[str, Any], Curve]:
    """Return the schedule's text, its rates at the landmarks and the warnings that it gave; and its curve."""
    import warnings

    from repfold.schedule import ScheduleWarning, curve, landmarks

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScheduleWarning)
        steps = landmarks(rate.schedule, steps_per_epoch, epochs)
        rates = {name: {"step": step, "lr": rate(step, steps_per_epoch, epochs)} for name, step in steps.items()}
        x, multipliers = curve(rate.schedule, steps_per_epoch, epochs)
    warned = {str(item.message): None for item in caught if issubclass(item.category, ScheduleWarning)}
    row = {"schedule": str(rate.schedule), "rates": rates, "warnings": list(warned)}
    return row, (x, [rate.base * multiplier for multiplier in multipliers])


def _print(rows: list[dict[str, Any]], plot: Path | None) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    names = list(dict.fromkeys(name for row in rows for name in row["rates"]))
    table = Table("schedule", box=None)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row["rates"].get(name) for name in names]
        table.add_row(row["name"], *(f"{cell['lr']:.6g}" if cell else "-" for cell in cells))
    console, stderr = Console(), Console(stderr=True)
    console.print(table)
    for row in rows:
        for warning in row["warnings"]:
            stderr.print(f"warning: {row['name']}: {warning}", style="yellow", highlight=False, markup=False)
    if plot is not None:
        console.print(f"Written: {plot}", soft_wrap=True, highlight=False)
