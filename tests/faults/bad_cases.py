"""All that can be wrong with a command: its words, the files that it is given, the studies that it runs."""

from __future__ import annotations

from tests.faults import bad_files, bad_words
from tests.faults.bad_studies import studies
from tests.faults.case import Case

GROUPS = (
    *(bad_words.flags, bad_words.settings, bad_words.positions),
    *(bad_files.files, bad_files.contents, studies),
    *(bad_words.budgets, bad_words.engines, bad_files.event_files),
)


def all_cases() -> list[Case]:
    """Every case, in an order that is always the same."""
    return [case for cases in GROUPS for case in cases()]
