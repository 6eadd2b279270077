"""What is shown of each run or arm in turn, bounded: a page of many runs stays one that a browser opens at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from repfold.report.markup import Markup, join, tag

MOST = 12  # shown in turn
DRAWN = 24  # lines over one another
_Each = TypeVar("_Each")


def one_by_one(
    named: Sequence[tuple[str, _Each]], show: Callable[[_Each], Markup], *, open_first: bool = True
) -> Markup:
    """Return an element that opens and closes for each of ``named``, at most ``MOST``; the first stands open."""
    shown = [
        tag("details", tag("summary", name), show(each), open="" if open_first and index == 0 else None)
        for index, (name, each) in enumerate(named[:MOST])
    ]
    return join([*shown, left_out(len(named), MOST)])


def left_out(of: int, most: int) -> Markup | None:
    """Return a sentence about what a bound left out; None when it did not."""
    if of <= most:
        return None
    return tag("p", f"The first {most} of {of} are shown; the others have pages of their own.", class_="quiet")
