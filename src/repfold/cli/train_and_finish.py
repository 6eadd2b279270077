"""A training with its display, what follows it, and what is printed at the end: of ``train`` and of ``demo``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from repfold import run_files
from repfold.cli.terminal import echo, print_json
from repfold.errors import RepFoldError
from repfold.signals import Interrupted, look

if TYPE_CHECKING:
    from repfold.cli.console import Console
    from repfold.deploy import Outcome
    from repfold.train import Recipe, RunResult
    from repfold.train.events import Event, Listener


def train_with_display(
    recipe: Recipe,
    directory: Path,
    console: Console,
    *,
    resume: bool = False,
    override: bool = False,
    trust: bool = False,
    tensorboard: bool = False,
) -> RunResult:
    """Train, showing progress on ``console``; with ``tensorboard``, or where they are already, write event files too.

    After a signal, prints how to go on and exits with 128 + its number; with 1 when the run's directory is deleted.
    """
    from repfold.cli.train_display import TrainDisplay
    from repfold.train import RunLostError, Stopped
    from repfold.train import train as train_network

    display = TrainDisplay(console)
    try:
        with display, _listener(display, directory, tensorboard) as listen:
            return train_network(recipe, directory, resume=resume, override=override, trust=trust, on_event=listen)
    except RunLostError as lost:
        echo(f"\nrepfold: {lost}", error=True)
        sys.exit(lost.exit_code)
    except Stopped as stopped:
        echo(f"\n{stopped}", error=True)
        sys.exit(stopped.exit_code)
    except Interrupted as stopped:
        stopped.status = display.where_it_was(directory, recipe)
        raise


@contextmanager
def _listener(display: Listener, directory: Path, tensorboard: bool) -> Iterator[Listener]:
    """The display, behind event files if the run is to have them; those that it has end where nothing can write them.

    Raises: RepFoldError when they are asked for and cannot be written.
    """
    from repfold.train import EventFiles, event_files

    files = None
    try:
        files = EventFiles(directory) if tensorboard or event_files.found(directory) else None
    except RepFoldError as error:
        if tensorboard:
            raise
        echo(f"repfold: The event files in {directory} do not go on: {error}", error=True)
    if files is None:
        yield display
        return
    with files as write:

        def both(event: Event) -> None:
            write(event)
            display(event)

        yield both


def finish_with_display(directory: Path, recipe: Recipe, console: Console, *, pictures: bool = True) -> list[Outcome]:
    """Do what follows training, saying on a terminal which stage is under way."""
    from repfold import deploy, models
    from repfold.train import model_evaluation, recipe_code, restart_command
    from repfold.train.run_lock import held

    begun: list[str] = []
    try:
        with held(directory), console.status("") as status:

            def show(stage: str) -> None:
                look()
                begun.append(stage)
                status.update(f"{stage} ...")

            trust = recipe_code.builds(recipe, models.read_description(directory))
            images = (lambda seen: model_evaluation.open_data(directory, None, seen).val) if pictures else None
            return deploy.finish_run(directory, trust=trust, validation=images, on_stage=show)
    except Interrupted as stopped:
        done = ", ".join(begun[:-1]) or "nothing"
        go_on = restart_command.to_resume(directory, recipe)
        stopped.status = f"Training is complete; of what follows it, {done} is done. Go on with: {go_on}"
        raise


def print_result(console: Console, result: RunResult, stages: list[Outcome], *, json: bool) -> None:
    """Print what was done, how well, and where the files are: as a table on ``console``, or one JSON object."""
    from rich.table import Table
    from rich.text import Text

    from repfold.cli.few_classes import TOP5_ABOVE

    best = result.records[result.best_epoch - 1]
    if json:
        outcomes = [{"name": s.name, "result": s.result, "file": str(s.file) if s.file else None} for s in stages]
        run = {"directory": str(result.directory), "best_epoch": result.best_epoch, "best": best}
        print_json({**run, "stages": outcomes})
        return
    table = Table("done", "file", "result", box=None)
    top5 = f", top-5 {best['val_top5']:.2f} %" if len(result.classes) > TOP5_ABOVE else ""
    trained = f"top-1 {best['val_top1']:.2f} %{top5}, epoch {result.best_epoch} the best"
    table.add_row("train", run_files.BEST, f"{trained} of {len(result.records)}")
    for stage in stages:
        table.add_row(stage.name, stage.file.name if stage.file else "-", Text(stage.result))
    console.print()
    console.print(table, highlight=False)
    console.print(f"\nEverything is in {result.directory}", highlight=False, soft_wrap=True)
