"""Work on many image files at once, in threads: Pillow decodes without holding the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from repfold.data.images import BrokenImageError

Answer = TypeVar("Answer")

_ROWS_A_TASK = 16  # several, since a small picture decodes faster than a thread is handed its task


def in_parallel(task: Callable[[int], Answer], count: int) -> Iterator[Answer | BrokenImageError]:
    """Yield ``task(row)``, or the error of a broken file, for each row in order."""

    def attempt(row: int) -> Answer | BrokenImageError:
        try:
            return task(row)
        except BrokenImageError as error:
            return error

    def attempt_some(first: int) -> list[Answer | BrokenImageError]:
        return [attempt(row) for row in range(first, min(first + _ROWS_A_TASK, count))]

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="repfold-decode") as pool:
        # In groups, so that what is decoded but not yet consumed stays bounded.
        group = 4 * workers * _ROWS_A_TASK
        for first in range(0, count, group):
            for answers in pool.map(attempt_some, range(first, min(first + group, count), _ROWS_A_TASK)):
                yield from answers
