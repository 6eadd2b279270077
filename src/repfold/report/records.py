"""Run directories, read: what training left behind, checked, with a note for each thing that cannot be read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from repfold import regular, run_files, toml
from repfold.counted import counted
from repfold.errors import RepFoldError, few, first_line
from repfold.report.confusion import Confusion, confusion_of
from repfold.report.masks import LayerMask, masks_of
from repfold.report.mistakes import Mistakes, mistakes_of
from repfold.report.numbers import finite, number
from repfold.report.timings import Timings, timings_of

Record = Mapping[str, Any]
_Read = TypeVar("_Read")

_MOST_BYTES = 2**28  # of one file of a run


@dataclass(frozen=True)
class Run:
    """What one run directory holds. ``epochs`` are the lines of its record, at least one, ascending by epoch.

    ``notes`` are sentences about what was missing, torn or strange.
    """

    directory: Path
    name: str
    epochs: tuple[Record, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None
    confusion: Confusion | None = None
    timings: Timings | None = None
    masks: tuple[LayerMask, ...] = ()
    mistakes: Mistakes | None = None
    files: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    def column(self, key: str) -> tuple[float | None, ...]:
        """Return one quantity over the epochs; ``None`` where it is absent, NaN and ∞ as they were recorded."""
        return tuple(number(record.get(key)) for record in self.epochs)

    def has(self, key: str) -> bool:
        """Return whether a quantity is finite in at least one epoch."""
        return any(finite(value) for value in self.column(key))

    @property
    def best(self) -> Record:
        """The epoch of the highest validation top-1, the earliest of equals; the last epoch when there is none."""
        scores = [-math.inf if value is None or math.isnan(value) else value for value in self.column("val_top1")]
        highest = max(scores)
        return self.epochs[scores.index(highest)] if math.isfinite(highest) else self.epochs[-1]

    @property
    def last(self) -> Record:
        """The last epoch."""
        return self.epochs[-1]

    @property
    def planned(self) -> int | None:
        """How many epochs the recipe asks for; None where it does not specify them."""
        epochs = number(self.recipe.get("epochs"))
        return int(epochs) if finite(epochs) else None

    @property
    def unfinished(self) -> bool:
        """Whether the recipe asks for more epochs than are recorded, and its patience is not over either."""
        patience = number(self.recipe.get("patience")) or 0
        impatient = patience > 0 and int(self.last["epoch"]) - int(self.best["epoch"]) >= patience
        return self.planned is not None and int(self.last["epoch"]) < self.planned and not impatient


def read_runs(directories: Sequence[str | os.PathLike[str]]) -> tuple[Run, ...]:
    """Read run directories; one given twice is read once. Names are the shortest path ends that differ.

    Raises: RepFoldError when none is given, or one is missing, is no run directory, or has no epoch recorded.
    """
    if not directories:
        raise RepFoldError("No run directory was given; there is nothing to report. Give at least one, as runs/demo.")
    paths = list(dict.fromkeys(Path(os.path.realpath(directory)) for directory in directories))
    return tuple(_read_run(path, name) for path, name in zip(paths, _names(paths), strict=True))


def _read_run(directory: Path, name: str) -> Run:
    _check(directory)
    notes: list[str] = []
    epochs = _read_epochs(directory / run_files.RECORD, notes)

    def read(file: str, meaning: Callable[[Any], _Read]) -> _Read | None:
        """Read one file of the run; what is damaged counts as absent, with a note."""
        try:
            text = regular.read_text(directory / file, _MOST_BYTES)
            return meaning(toml.parse(text) if file.endswith(".toml") else json.loads(text))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            notes.append(f"{file} cannot be read ({_reason(error)}) and is left out.")
            return None

    run = Run(
        directory=directory,
        name=name,
        epochs=epochs,
        recipe=read(run_files.RECIPE, _mapping) or {},
        environment=read(run_files.ENVIRONMENT, _mapping) or {},
        certificate=read(run_files.CERTIFICATE, _mapping),
        confusion=read(run_files.CONFUSION, confusion_of),
        timings=read(run_files.TIMINGS, timings_of),
        masks=read(run_files.RULES, masks_of) or (),
        mistakes=read(run_files.MISTAKES, mistakes_of),
        files=_files(directory),
        notes=(),
    )
    return _with_notes(run, notes)


def _with_notes(run: Run, notes: list[str]) -> Run:
    if not run.recipe and not any(note.startswith(run_files.RECIPE) for note in notes):
        notes.append(f"There is no {run_files.RECIPE}, so the page cannot show how the run was trained.")
    if run.unfinished:
        notes.append(f"The run is not finished: {int(run.last['epoch'])} of {run.planned} epochs are recorded.")
    broken = [
        int(record["epoch"])
        for record in run.epochs
        if any((value := number(record[key])) is not None and not finite(value) for key in record)
    ]
    if broken:
        notes.append(
            f"Values that are not finite were recorded, first in epoch {broken[0]}; the curves have gaps there."
        )
    return replace(run, notes=tuple(notes))


def _check(directory: Path) -> None:
    if not directory.exists():
        raise RepFoldError(
            f"The run directory {directory} does not exist. Give a directory that 'repfold train' wrote."
        )
    if not directory.is_dir():
        raise RepFoldError(f"{directory} is a file, not a run directory. Give the directory that holds it.")
    if not (directory / run_files.RECORD).is_file():
        inside = sorted(path.parent.name for path in directory.glob(f"*/{run_files.RECORD}"))
        offer = f"It holds run directories: give {few(inside, 5)} inside it."
        advice = offer if inside else "Give a directory that 'repfold train' wrote."
        raise RepFoldError(f"{directory} is no run directory: it has no {run_files.RECORD}. {advice}")


def _read_epochs(path: Path, notes: list[str]) -> tuple[Record, ...]:
    """Read record.jsonl: a line that is no epoch (torn, say) is skipped; of two for one epoch the later counts."""
    lines = regular.read_bytes(path, _MOST_BYTES).decode("utf-8", errors="replace").removesuffix("\n").split("\n")
    epochs: dict[int, Record] = {}
    torn: list[int] = []
    again = 0
    for at, line in enumerate(lines, start=1):
        if not line.strip("\0 \t\r"):
            continue
        record = _epoch(line)
        if record is None:
            torn.append(at)
            continue
        again += record["epoch"] in epochs
        epochs[record["epoch"]] = record
    if torn:
        lines_are = "line" if len(torn) == 1 else "lines"
        notes.append(
            f"{len(torn)} damaged {lines_are} of {run_files.RECORD} skipped (of {len(lines)}: {few(torn, 5)})."
        )
    if again:
        notes.append(f"{run_files.RECORD} has {counted(again, 'epoch')} more than once; the last entry counts.")
    if not epochs:
        why = "every line of it is damaged" if torn else "it is empty"
        raise RepFoldError(f"{path} holds no epoch: {why}. Train at least one epoch (repfold train --resume goes on).")
    return tuple(epochs[epoch] for epoch in sorted(epochs))


def _epoch(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and type(record.get("epoch")) is int and abs(record["epoch"]) < 2**53
    return record if whole else None


def _mapping(content: object) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise TypeError("not an object of names and values")
    return content


def _reason(error: Exception) -> str:
    return f"misses {error}" if isinstance(error, KeyError) else first_line(error, 160)


def _files(directory: Path) -> tuple[tuple[str, int], ...]:
    entries = (path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return tuple(sorted((path.name, path.stat().st_size) for path in entries))


def _names(paths: Sequence[Path]) -> list[str]:
    """Return for each path its last part, or as many of its last parts as it takes for all names to differ."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
