"""What a study under way looks like in the terminal: a bar for all trials and one for each, or lines of what ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from repfold.cli.console import Console
from repfold.counted import counted
from repfold.signals import look
from repfold.study import events

if TYPE_CHECKING:
    from repfold.study.study import Study


class StudyDisplay:
    """A listener of ``run_study``, and a context in which the bars live."""

    def __init__(self, console: Console, study: Study) -> None:
        self.console, self.study = console, study
        self.total = self.done = self.before = 0
        self.seconds: list[float] = []
        self.jobs = 1
        self.waiting = False
        self.bars: dict[str, TaskID] = {}
        self.began = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[status]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> StudyDisplay:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def __call__(self, event: events.Event) -> None:
        """Show an event; raises Interrupted when a signal asked to stop."""
        look()
        _HANDLERS[type(event)](self, event)

    def begin(self, event: events.Begun) -> None:
        """Say what there is to do."""
        self.total, self.done, self.jobs = event.total, event.finished, event.jobs
        self.before = event.finished
        arms, seeds = len(self.study.arms), len(self.study.seeds)
        self._line(f"{self.study.title}: {counted(arms, 'arm')} x {counted(seeds, 'seed')}")
        there = f"{event.finished} of {event.total} trials are finished"
        self._line(f"{there}; the others {event.jobs} at a time, {counted(event.threads, 'thread')} each")
        self._total()

    def move(self, event: events.Progress) -> None:
        """Move the bar of a trial."""
        label = event.trial.label
        if label not in self.bars:
            self.bars[label] = self.progress.add_task(label, total=event.epochs, status="")
        status = f"epoch {event.epoch:.1f} of {event.epochs}"
        status += f"  loss {event.loss:.3f}" if event.loss is not None else ""
        status += f"  top-1 {event.top1:.2f} %" if event.top1 is not None else ""
        self.progress.update(self.bars[label], completed=event.epoch, status=status)

    def end(self, event: events.Ended) -> None:
        """Take away the bar of a trial, and write a line."""
        if event.trial.label in self.bars:
            self.progress.remove_task(self.bars.pop(event.trial.label))
        self.done += event.how != "failed"
        if event.how == "trained":
            self.seconds.append(event.seconds)
        how = _ENDS[event.how].format(seconds=in_words(event.seconds), result=event.result)
        count = f"{self.done}/{self.total}" if self.total else "first"
        self._line(f"{count:>9}  {event.trial.label:<32} {how}", "red" if event.how == "failed" else None)
        self._total()

    def wait(self, event: events.Waiting) -> None:
        """Say, once, that another runner has the rest."""
        if not self.waiting:
            self._line(f"Another runner is training the other {event.trials}; waiting for it.")
        self.waiting = True

    def give_up(self, event: events.OutOfTime) -> None:
        """Say that the time is over."""
        self._line(
            f"There is no time for another seed of every arm: {counted(event.left, 'trial')} left for the next time."
        )

    def _total(self) -> None:
        if not self.total:
            return
        if "" not in self.bars:
            self.bars[""] = self.progress.add_task("all trials", total=self.total, status="")
        left = self.total - self.done
        usual = sum(self.seconds) / len(self.seconds) if self.seconds else 0.0
        status = f"{self.done} of {self.total}" + (f", {in_words(left * usual / self.jobs)} left" if usual else "")
        self.progress.update(self.bars[""], completed=self.done, status=status)

    def _line(self, text: str, style: str | None = None) -> None:
        self.progress.console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)


_ENDS = {
    "trained": "finished in {seconds}",
    "found": "was finished by another runner",
    "failed": "failed: {result}",
}


def in_words(seconds: float) -> str:
    """Write a duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_HANDLERS: dict[type, Callable[[StudyDisplay, Any], None]] = {
    events.Begun: StudyDisplay.begin,
    events.Progress: StudyDisplay.move,
    events.Ended: StudyDisplay.end,
    events.Waiting: StudyDisplay.wait,
    events.OutOfTime: StudyDisplay.give_up,
}
