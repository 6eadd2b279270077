"""A table as a value, and its writing as HTML and as plain text for terminals."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repfold.report.markup import Markup, escape, tag


@dataclass(frozen=True)
class Column:
    """A column's title and whether it holds numbers, which are aligned at the right."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns. A cell is text, or ``Markup`` for what only a page can show.

    ``marked`` are the indices of rows to highlight.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    marked: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "each row has a cell for each column"


def columns(*titles: str) -> tuple[Column, ...]:
    """Return columns from titles; one that begins with ``#`` holds numbers: ``columns("run", "#top-1")``."""
    return tuple(Column(title.removeprefix("#"), title.startswith("#")) for title in titles)


def to_html(table: Table) -> Markup:
    """Return the table as HTML that scrolls by itself when it is wider than the page; the first cell heads its row."""
    classes = ["n" if column.number else None for column in table.columns]
    head = [
        tag("th", column.title, scope="col", class_=name) for column, name in zip(table.columns, classes, strict=True)
    ]
    body = []
    for index, row in enumerate(table.rows):
        first = tag("th", row[0], scope="row", class_=classes[0])
        rest = [tag("td", cell, class_=name) for cell, name in zip(row[1:], classes[1:], strict=True)]
        body.append(tag("tr", first, *rest, class_="marked" if index in table.marked else None))
    # The caption stays outside, or it would scroll away with a wide table.
    caption = tag("p", table.caption, class_="caption") if table.caption else None
    label = table.caption or "Table"
    written = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), aria_label=label)
    return tag("div", caption, tag("div", written, class_="scroll", tabindex=0, role="region", aria_label=label))


def to_text(table: Table, width: int = 120) -> str:
    """Return the table as aligned plain text, for a terminal of a fixed-width font.

    Titles that make it wider than ``width`` take several lines.
    """
    titles = [[column.title] for column in table.columns]
    cells = [[row[index] for row in table.rows] for index in range(len(titles))]
    if sum(_widest(both) + 2 for both in zip(titles, cells, strict=True)) - 2 > width:
        titles = [_narrow(column.title, _widest([own])) for column, own in zip(table.columns, cells, strict=True)]
    most = max(map(len, titles))
    heads = zip(*([""] * (most - len(title)) + title for title in titles), strict=True)
    widths = [_widest(both) for both in zip(titles, cells, strict=True)]
    lines = [_aligned(line, widths, table.columns) for line in (*heads, *table.rows)]
    lines.insert(most, "  ".join("─" * width for width in widths))
    return "\n".join([*([table.caption] if table.caption else []), *lines])


def _widest(texts: Iterable[Sequence[str]]) -> int:
    return max((_cells(text) for group in texts for text in group), default=0)


def _narrow(title: str, width: int) -> list[str]:
    """A title in lines that are no wider than the cells below, where its words allow that."""
    return textwrap.wrap(title, max(width, *map(len, title.split()), 1)) or [title]


def bar(value: float, text: str, *, low: float | None = None, high: float | None = None) -> Markup:
    """Return a cell with a bar of ``value`` (0..1 of the column's width), its text, and a whisker ``low..high``."""
    whisker = None
    if low is not None and high is not None:
        left, width = 100 * min(low, 1.0), 100 * max(0.0, min(high, 1.0) - low)
        whisker = tag("i", class_="whisker", style=f"left:{left:.2f}%;width:{width:.2f}%")
    filled = tag("i", class_="fill", style=f"width:{100 * min(max(value, 0.0), 1.0):.2f}%")
    return tag("span", tag("span", filled, whisker, class_="track"), tag("span", text, class_="amount"), class_="bar")


def _aligned(line: Sequence[str], widths: Sequence[int], of: Sequence[Column]) -> str:
    cells = []
    for cell, width, column in zip(line, widths, of, strict=True):
        room = " " * (width - _cells(cell))
        cells.append(room + cell if column.number else cell + room)
    return "  ".join(cells).rstrip()


def _cells(text: str) -> int:
    """Return how many terminal cells a text takes: two for wide characters, none for combining ones."""
    assert not isinstance(text, Markup), f"a cell for pages only cannot be written as text: {escape(text)[:60]}"
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(bool(unicodedata.combining(character)) for character in text)
