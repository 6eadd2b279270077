"""Whether runs may be compared: what each was trained and validated on, and a warning where it was not the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repfold.errors import few
from repfold.report.records import Run

# Runs that differ in any of these saw other data, whatever their folders are called.
_IDENTITY = ("classes", "training_images", "validation_images")
_MOST_NAMED = 3


def data_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a warning where runs are of different data, or of other images drawn from the same; else nothing.

    Runs whose environment says nothing of their data are left out.
    """
    known = [(run, data) for run in runs if (data := _data(run))]
    together: dict[tuple[object, ...], list[Run]] = {}
    for run, data in known:
        together.setdefault((data.get("name"), *(data.get(key) for key in _IDENTITY)), []).append(run)
    if len(together) > 1:
        sets = "; ".join(_set_in_words(key, members) for key, members in together.items())
        return (f"These runs are of different data, so that their accuracies do not compare: {sets}.",)
    prints = {data.get("fingerprint") for _, data in known} - {None}
    if len(prints) > 1:
        return (
            "These runs drew different training and validation images from the same data (by seed, or the files have "
            "changed): a part of the differences between them is that of the images.",
        )
    return ()


def _data(run: Run) -> Mapping[str, Any] | None:
    data = run.environment.get("data")
    return data if isinstance(data, dict) and all(isinstance(data.get(key), int) for key in _IDENTITY) else None


def _set_in_words(key: tuple[object, ...], members: Sequence[Run]) -> str:
    name, classes, train, val = key
    runs = few([run.name for run in members], _MOST_NAMED)
    return f"{runs}: {name}, {classes} classes, {train} training and {val} validation images"
