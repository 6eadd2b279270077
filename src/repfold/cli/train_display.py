"""What a training looks like in the terminal: live bars, or plain lines when it is no terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from repfold import run_files
from repfold.cli.console import Console
from repfold.cli.terminal import echo
from repfold.signals import look
from repfold.train.events import EpochDone, Note, Preparing, Started, Stepped

if TYPE_CHECKING:
    from repfold.train import Recipe
    from repfold.train.events import Event, Record

# Heading, width, and how the column is read from a record.
_COLUMNS: tuple[tuple[str, int, Callable[[Record], str]], ...] = (
    ("lr", 9, lambda record: f"{record['lr']:.3g}"),
    ("loss", 7, lambda record: f"{record['train_loss']:.4f}"),
    ("train %", 7, lambda record: f"{record['train_top1']:.2f}"),
    ("val loss", 8, lambda record: f"{record['val_loss']:.4f}"),
    ("top-1 %", 7, lambda record: f"{record['val_top1']:.2f}"),
    ("top-5 %", 7, lambda record: f"{record['val_top5']:.2f}"),
    ("prec %", 6, lambda record: f"{record['val_precision']:.2f}"),
    ("recall %", 8, lambda record: f"{record['val_recall']:.2f}"),
    ("images/s", 8, lambda record: f"{record['images_per_second']:.0f}"),
    ("waits %", 7, lambda record: f"{100 * record['waiting_share']:.1f}"),
)


class TrainDisplay:
    """A listener of ``train``, and a context in which the bars live."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0
        self.begun = self.complete = False
        self.bars: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> TrainDisplay:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Show an event; raises Interrupted when a signal asked to stop."""
        look()
        _HANDLERS[type(event)](self, event)

    def where_it_was(self, directory: Path, recipe: Recipe) -> str:
        """Describe what a signal has left undone that came where no checkpoint could be written."""
        from repfold.train import restart_command

        go_on = f"Go on with: {restart_command.to_resume(directory, recipe)}"
        if self.complete:
            return f"Training is complete; what follows it is not done. {go_on}"
        if self.begun:
            return f"The steps since the last checkpoint are lost. {go_on}"
        again = go_on if (directory / run_files.RECIPE).exists() else "Give the same command again."
        return f"It was before the first step, so there is nothing to keep. {again}"

    def line(self, text: str, style: str | None = None) -> None:
        """Print one line above the bars."""
        self.progress.console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)

    def prepare(self, event: Preparing) -> None:
        """Show how much of the data is read."""
        self._bar("images", event.done, event.total)

    def note(self, event: Note) -> None:
        """Show something that the user should know."""
        self.line(f"Note: {event.text}", "yellow")
        if event.severe and not self.console.stderr:
            echo(f"repfold: {event.text}", error=True)

    def start(self, event: Started) -> None:
        """Show what will happen, and the head of the table of epochs."""
        for name, text in event.summary.items():
            self.line(f"{name:<11}{text}")
        if (event.epoch, event.step) != (0, 0):
            self.line(f"{'goes on':<11}after step {event.step} of {event.steps} of epoch {event.epoch + 1}")
        self.epochs = event.epochs
        self.begun, self.complete = True, event.epoch == event.epochs
        self.line("  ".join([f"{'epoch':>9}", *(f"{name:>{width}}" for name, width, _ in _COLUMNS)]), "bold")

    def step(self, event: Stepped) -> None:
        """Move the bars."""
        status = f"loss {event.loss:.4f}  lr {event.lr:.3g}  {event.images_per_second:.0f} images/s"
        self._bar("run", event.epoch * event.steps + event.step, self.epochs * event.steps)
        self._bar("epoch", event.step, event.steps, status)

    def end_epoch(self, event: EpochDone) -> None:
        """Add a line to the table of epochs."""
        self.complete = event.last
        cells = [f"{read(event.record):>{width}}" for _, width, read in _COLUMNS]
        epoch = f"{event.record['epoch']}/{self.epochs}"
        self.line("  ".join([f"{epoch:>9}", *cells]) + ("  best" if event.best else ""))

    def _bar(self, name: str, done: int, total: int, status: str = "") -> None:
        if name not in self.bars:
            self.bars[name] = self.progress.add_task(name, status=status)
        self.progress.update(self.bars[name], completed=done, total=total, status=status)


_HANDLERS: dict[type, Callable[[TrainDisplay, Any], None]] = {
    Preparing: TrainDisplay.prepare,
    Note: TrainDisplay.note,
    Started: TrainDisplay.start,
    Stepped: TrainDisplay.step,
    EpochDone: TrainDisplay.end_epoch,
}
