"""Rich's console, for text that may come from anywhere: nothing in it is markup, and no control character gets out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from repfold.cli.terminal import clean

# Columns of what is no terminal, a file or another program: no line is wrapped, but the cells of a table may be.
_WIDE, _WIDEST_TABLE = 10_000, 120


class Console(rich.console.Console):
    """A console on stdout or stderr; colours are asked for by ``style``. Lines wrap in a terminal alone."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)
        if not self.is_terminal:
            self.width = _WIDE

    def print(self, *objects: Any, **how: Any) -> None:
        """Print; a table in a file is no wider than people read."""
        if not self.is_terminal and any(isinstance(one, Table) for one in objects):
            how.setdefault("width", _WIDEST_TABLE)
        super().print(*objects, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Text to be laid out: clean before its width is measured."""
        return super().render_str(clean(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """All that is printed passes here; rich's own controls (colours, the cursor) are no text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)
