"""Where trials are kept: a directory each, found by key, for every study that looks here.

``KEY-CODE/`` is a run directory; ``trial.json`` in it is written last, and makes it a finished trial; ``failure.json``
says why one ended otherwise. A finished trial is used by whichever study has its key, as long as the code that it
depends on is what it was (see ``code``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.study.code import Code, here
from repfold.study.trial import Trial, is_told
from repfold.train import run_lock
from repfold.train.run_lock import RunLock

FINISHED, FAILURE, LOG = "trial.json", "failure.json", "log.txt"
_CLAIMS = ".claims"


@dataclass(frozen=True)
class Failure:
    """Why a trial ended without a result, what to type to see it fail alone, and all that it printed of it."""

    error: str
    command: str
    trace: str = ""


class Store:
    """The trials in ``path``; those count that ``code`` would give again, by default that of this process."""

    def __init__(self, path: Path, code: Code | None = None) -> None:
        self.path, self.code = path, code or here()
        self._names: dict[str, list[str]] | None = None

    def directory(self, trial: Trial) -> Path:
        """Return where ``trial`` is, or is to be, trained: of its finished ones that which still counts."""
        return self.finished(trial) or self._of_now(trial)

    def finished(self, trial: Trial) -> Path | None:
        """Return the directory of ``trial`` when there is a result of it that counts."""
        for name in self._known(trial.key):
            content = self.result(self.path / name)
            if content is not None and self._counts(content, trial):
                return self.path / name
        return None

    def any_finished(self, trial: Trial) -> tuple[Path, bool] | None:
        """Return a directory with a result of ``trial``, and whether it still counts, which one that does has first.

        One that does not is of code that has changed since: still what was found then, but not what would be now.
        """
        if (counts := self.finished(trial)) is not None:
            return counts, True
        for name in self._known(trial.key):
            content = self.result(self.path / name)
            if content is not None and _is_of(content, trial):
                return self.path / name, False
        return None

    def result(self, directory: Path) -> dict[str, Any] | None:
        """Return what a finished trial's file says; None for one that is not finished, or whose file is damaged."""
        return _read(directory / FINISHED)

    def failure(self, trial: Trial) -> Failure | None:
        """Return why ``trial`` failed, if it was tried with the code as it is."""
        content = _read(self._of_now(trial) / FAILURE)
        try:
            return Failure(**content) if content else None
        except TypeError:
            return None

    def claim(self, key: str) -> AbstractContextManager[RunLock]:
        """Return a context in which nobody else trains the trial of ``key``. Raises: TakenError, when it is entered."""
        return run_lock.held(self.path / _CLAIMS / key)

    def is_claimed(self, key: str) -> bool:
        """Whether somebody trains the trial of ``key`` at this moment."""
        return run_lock.holder_of(self.path / _CLAIMS / key) is not None

    def look_again(self) -> None:
        """Forget which directories there were: others may have added some."""
        self._names = None

    def _of_now(self, trial: Trial) -> Path:
        return self.path / f"{trial.key}-{self.code.whole}"

    def _counts(self, content: Mapping[str, Any], trial: Trial) -> bool:
        try:
            ran = content["code"]
            return _is_of(content, trial) and self.code.is_current(ran["files"], ran["torch"])
        except (KeyError, TypeError, AttributeError):
            return False

    def _known(self, key: str) -> list[str]:
        if self._names is None:
            self._names = {}
            for entry in sorted(self.path.glob("????????????????-????????")):
                self._names.setdefault(entry.name[:16], []).append(entry.name)
        return self._names.get(key, [])


def write_finished(directory: Path, content: Mapping[str, Any]) -> None:
    """Write the file that makes a trial a finished one, and remove the failure of an earlier attempt."""
    atomic.write_json(directory / FINISHED, content, indent=1)
    (directory / FAILURE).unlink(missing_ok=True)


def write_failure(directory: Path, failure: Failure) -> None:
    """Write why a trial ended without a result."""
    atomic.write_json(directory / FAILURE, vars(failure), indent=1)


def check_writable(path: Path) -> None:
    """Make ``path``, if need be. Raises: RepFoldError when that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RepFoldError(f"{path} cannot be made: {error.strerror}. Choose another directory.") from error


def _is_of(content: Mapping[str, Any], trial: Trial) -> bool:
    told = content.get("recipe")
    return isinstance(told, dict) and is_told(told, trial.recipe)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None
