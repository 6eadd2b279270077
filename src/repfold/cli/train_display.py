"""What a training looks like in the terminal: live bars, or plain lines when it is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.progress import MofNCompleteColumn

from repfold import run_files
from repfold.cli.console import Console
from repfold.cli.display import Display, Handlers
from repfold.cli.few_classes import TOP5_ABOVE
from repfold.cli.remaining import Remaining, in_words
from repfold.cli.terminal import echo
from repfold.train.events import EpochDone, Note, Preparing, Started, Stepped

if TYPE_CHECKING:
    from repfold.train import Recipe
    from repfold.train.events import Pace, Record

Column = tuple[str, int, Callable[["Record"], str]]

# Heading, width, and how the column is read from a record.
_COLUMNS: tuple[Column, ...] = (
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
# A log that nobody watches gets a line at least so often.
_LINE_SECONDS = 30.0


class TrainDisplay(Display):
    """A listener of ``train``, and a context in which the bars live."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "{task.description:<9}", MofNCompleteColumn())
        self.epochs = 0
        self.begun = self.complete = False
        self.columns: tuple[Column, ...] = _COLUMNS
        self.remaining: Remaining | None = None
        self.printed = time.monotonic()

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
        self.printed = time.monotonic()
        super().line(text, style)

    def prepare(self, event: Preparing) -> None:
        """Show how much of the data is read."""
        self.bar("images", event.done, event.total)
        if self._log_waits():
            self.line(f"{'images':<11}{event.done / event.total:.0%} read")

    def note(self, event: Note) -> None:
        """Show something that the user should know."""
        self.line(f"Note: {event.text}", "yellow")
        if event.severe and not self.console.stderr:
            echo(f"repfold: {event.text}", error=True)

    def start(self, event: Started) -> None:
        """Show what will happen, and the head of the table of epochs."""
        for name, text in event.summary.items():
            self.line(f"{name:<11}{text}")
        self.epochs = event.epochs
        self.begun, self.complete = True, event.epoch == event.epochs
        if self.complete:
            self.line(f"{'goes on':<11}after the last epoch: training is complete")
            return
        if (event.epoch, event.step) != (0, 0):
            self.line(f"{'goes on':<11}after step {event.step} of {event.steps} of epoch {event.epoch + 1}")
        self.remaining = Remaining(event.pace, event.epochs, event.steps, event.epoch, event.step)
        if event.pace is not None:
            self.line(f"{'takes':<11}{self._expected(event.pace, event.steps)}")
        self.columns = tuple(c for c in _COLUMNS if c[0] != "top-5 %" or event.classes > TOP5_ABOVE)
        self.line("  ".join([f"{'epoch':>9}", *(f"{name:>{width}}" for name, width, _ in self.columns)]), "bold")

    def step(self, event: Stepped) -> None:
        """Move the bars."""
        status = f"loss {event.loss:.4f}  lr {event.lr:.3g}  {event.images_per_second:.0f} images/s"
        if self.remaining is not None:
            self.remaining.stepped(event.epoch, event.step)
        self.bar("run", event.epoch * event.steps + event.step, self.epochs * event.steps, self._left())
        self.bar("epoch", event.step, event.steps, status)
        if self._log_waits():
            epoch = f"{event.epoch + 1}/{self.epochs}"
            self.line(f"{epoch:>9}  step {event.step} of {event.steps}  {status}  {self._left()}")

    def end_epoch(self, event: EpochDone) -> None:
        """Add a line to the table of epochs."""
        self.complete = event.last
        cells = [f"{read(event.record):>{width}}" for _, width, read in self.columns]
        epoch = f"{event.record['epoch']}/{self.epochs}"
        if self.remaining is not None:
            self.remaining.evaluated(event.record["epoch"])
        best = "best" if event.best else "    "
        left = "" if self.complete or self.console.is_terminal else self._left()
        self.line("  ".join([f"{epoch:>9}", *cells, best, left]).rstrip())

    def _log_waits(self) -> bool:
        return not self.console.is_terminal and time.monotonic() - self.printed > _LINE_SECONDS

    def _expected(self, pace: Pace, steps: int) -> str:
        assert self.remaining is not None
        whole = in_words(self.remaining.seconds() or 0.0)
        epoch, evaluation = in_words(pace.of(1, steps)), in_words(pace.evaluation)
        return f"about {whole}: {epoch} an epoch, of which evaluation {evaluation}; as measured on a few steps"

    def _left(self) -> str:
        seconds = self.remaining.seconds() if self.remaining is not None else None
        return "" if seconds is None else f"{in_words(seconds)} left"

    handlers: ClassVar[Handlers] = {
        Preparing: prepare,
        Note: note,
        Started: start,
        Stepped: step,
        EpochDone: end_epoch,
    }
