"""What a study under way looks like in the terminal: a bar for all trials and one for each, or lines of what ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from repfold.cli.console import Console
from repfold.cli.display import Display, Handlers
from repfold.cli.remaining import in_words
from repfold.counted import counted
from repfold.study import events

if TYPE_CHECKING:
    from repfold.study.study import Study


class StudyDisplay(Display):
    """A listener of ``run_study``, and a context in which the bars live."""

    def __init__(self, console: Console, study: Study) -> None:
        super().__init__(console)
        self.study = study
        self.total = self.done = 0
        self.seconds: list[float] = []
        self.jobs = 1
        self.waiting = False

    def begin(self, event: events.Begun) -> None:
        """Say what there is to do."""
        self.total, self.done, self.jobs = event.total, event.finished, event.jobs
        arms, seeds = len(self.study.arms), len(self.study.seeds)
        self.line(f"{self.study.title}: {counted(arms, 'arm')} x {counted(seeds, 'seed')}")
        there = f"{event.finished} of {event.total} trials are finished"
        self.line(f"{there}; the others {event.jobs} at a time, {counted(event.threads, 'thread')} each")
        self._total()

    def move(self, event: events.Progress) -> None:
        """Move the bar of a trial."""
        status = f"epoch {event.epoch:.1f} of {event.epochs}"
        status += f"  loss {event.loss:.3f}" if event.loss is not None else ""
        status += f"  top-1 {event.top1:.2f} %" if event.top1 is not None else ""
        self.bar(event.trial.label, event.epoch, event.epochs, status)

    def end(self, event: events.Ended) -> None:
        """Take away the bar of a trial, and write a line."""
        if event.trial.label in self.bars:
            self.progress.remove_task(self.bars.pop(event.trial.label))
        self.done += event.how != "failed"
        if event.how == "trained":
            self.seconds.append(event.seconds)
        how = _ENDS[event.how].format(seconds=in_words(event.seconds), result=event.result)
        count = f"{self.done}/{self.total}" if self.total else "first"
        self.line(f"{count:>9}  {event.trial.label:<32} {how}", "red" if event.how == "failed" else None)
        self._total()

    def wait(self, event: events.Waiting) -> None:
        """Say, once, that another runner has the rest."""
        if not self.waiting:
            self.line(f"Another runner is training the other {event.trials}; waiting for it.")
        self.waiting = True

    def give_up(self, event: events.OutOfTime) -> None:
        """Say that the time is over."""
        self.line(
            f"There is no time for another seed of every arm: {counted(event.left, 'trial')} left for the next time."
        )

    def _total(self) -> None:
        if not self.total:
            return
        left = self.total - self.done
        usual = sum(self.seconds) / len(self.seconds) if self.seconds else 0.0
        status = f"{self.done} of {self.total}" + (f", {in_words(left * usual / self.jobs)} left" if usual else "")
        self.bar("all trials", self.done, self.total, status)

    handlers: ClassVar[Handlers] = {
        events.Begun: begin,
        events.Progress: move,
        events.Ended: end,
        events.Waiting: wait,
        events.OutOfTime: give_up,
    }


_ENDS = {
    "trained": "finished in {seconds}",
    "found": "was finished by another runner",
    "failed": "failed: {result}",
}
