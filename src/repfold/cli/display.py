"""What long work looks like: bars in a terminal with lines above them, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn

from repfold.cli.console import Console
from repfold.signals import look

Handlers = Mapping[type, Callable[[Any, Any], None]]


class Display:
    """A listener of events, and a context in which the bars live.

    ``handlers``: of a kind of display, what each event is shown by. ``columns``: of the bars, between their name and
    their status.
    """

    handlers: ClassVar[Handlers] = {}

    def __init__(self, console: Console, name: str = "{task.description}", *columns: ProgressColumn) -> None:
        self.console = console
        self.bars: dict[str, TaskID] = {}
        shown = (TextColumn(name), BarColumn(bar_width=30), *columns, TextColumn("{task.fields[status]}"))
        self.progress = Progress(*shown, console=console, transient=True, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def __call__(self, event: object) -> None:
        """Show an event; raises Interrupted when a signal asked to stop."""
        look()
        self.handlers[type(event)](self, event)

    def line(self, text: str, style: str | None = None) -> None:
        """Print one line above the bars."""
        self.progress.console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)

    def bar(self, name: str, done: float, total: float, status: str = "") -> None:
        """Move a bar; a new one is added."""
        if name not in self.bars:
            self.bars[name] = self.progress.add_task(name, status=status)
        self.progress.update(self.bars[name], completed=done, total=total, status=status)
