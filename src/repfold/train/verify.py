"""Whether a run directory is what a training left in it: its files whole, its fold exact, its steps repeatable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from repfold import regular, run_files
from repfold.counted import counted
from repfold.errors import RepFoldError
from repfold.train import checkpoint, recipe_file, record, run_lock
from repfold.train.last_checkpoints import Found
from repfold.train.verify_fold import check_fold
from repfold.train.verify_steps import check_steps

Result = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what came of it."""

    name: str
    result: Result
    detail: str


def verify(
    directory: Path,
    *,
    steps: int = 50,
    factory: str | None = None,
    trust: bool = False,
    on_stage: Callable[[str], None] = lambda text: None,
) -> list[Check]:
    """Check the checkpoints and the files that they know, the fold with its certificate, and ``steps`` repeated steps.

    Nothing is written into ``directory``.

    Args:
        factory: trusted package.module:factory of the network, for runs of one's own network.
        trust: run the code that the run names.
        on_stage: gets the name of what is being checked.

    Raises: RepFoldError when there is no run, or one is being trained.
    """
    if not record.found(directory):
        raise RepFoldError(f"{directory} holds no run: none of its files is there. Give the directory of a run.")
    if holder := run_lock.holder_of(directory):
        raise RepFoldError(f"{directory} is being trained by {holder}. Verify it when that has ended.")
    on_stage("checkpoints")
    found, checks = _checkpoints(directory)
    if found:
        checks += [_best(directory, found[0]), _records(directory, found[0]), _recipe(directory, found[0])]
    on_stage("fold")
    checks += [Check(*result) for result in check_fold(directory, factory, trust)]
    if found:
        on_stage("steps")
        checks.append(Check("steps", *check_steps(directory, found, steps, factory, trust)))
    return checks


def _checkpoints(directory: Path) -> tuple[list[Found], list[Check]]:
    """The checkpoints that can be read, the last one first, and what there is to say of each."""
    found, checks = [], []
    for name in (run_files.CHECKPOINT, run_files.PREVIOUS_CHECKPOINT):
        path = directory / name
        if not path.exists():
            absent: Result = "failed" if name == run_files.CHECKPOINT else "skipped"
            checks.append(Check(name, absent, "there is none"))
            continue
        try:
            content = checkpoint.read(path)
        except RepFoldError as error:
            checks.append(
                Check(name, "failed", error.what if isinstance(error, checkpoint.UnreadableError) else str(error))
            )
            continue
        found.append(Found(path, content))
        sums = "SHA-256 as recorded" if checkpoint.is_sealed(path) else "of an earlier version: no SHA-256, checksums"
        done = f"{counted(content['state']['epoch'], 'epoch')} and {counted(content['state']['step'], 'step')}"
        checks.append(Check(name, "passed", f"{sums}; {done}"))
    return found, checks


def _best(directory: Path, found: Found) -> Check:
    state, name = found.content["state"], run_files.BEST
    known, path = state.get("best_sha256"), directory / run_files.BEST
    if not known:
        return Check(name, "skipped", "the checkpoint does not know its SHA-256")
    if checkpoint.is_file_of(path, known):
        return Check(name, "passed", f"SHA-256 as recorded; epoch {state['best_epoch']}")
    previous = directory / run_files.PREVIOUS_BEST
    if path.exists() and checkpoint.is_file_of(previous, known):
        return Check(name, "passed", "of an epoch after the checkpoint; --resume trains it again")
    return Check(name, "failed", "missing" if not path.exists() else "not the file that the checkpoint knows")


def _records(directory: Path, found: Found) -> Check:
    known = found.content["state"]["records"]
    try:
        lines = [
            json.loads(line)
            for line in regular.read_text(directory / run_files.RECORD, run_files.MOST_BYTES).splitlines()
        ]
    except (OSError, ValueError) as error:
        return Check(run_files.RECORD, "failed", f"cannot be read: {error}")
    if lines[: len(known)] != known or len(lines) > len(known) + 1:
        return Check(run_files.RECORD, "failed", f"not the {counted(len(known), 'epoch')} that the checkpoint knows")
    return Check(run_files.RECORD, "passed", f"the {counted(len(known), 'epoch')} of the checkpoint")


def _recipe(directory: Path, found: Found) -> Check:
    try:
        before = recipe_file.from_toml(found.content["recipe"], name="the checkpoint's recipe")
        changes = recipe_file.explain_difference(before, recipe_file.read(directory / run_files.RECIPE))
    except RepFoldError as error:
        return Check(run_files.RECIPE, "failed", str(error))
    if changes:
        return Check(run_files.RECIPE, "failed", f"differs from the checkpoint's: {' '.join(changes.split())}")
    return Check(run_files.RECIPE, "passed", "that of the checkpoint")
