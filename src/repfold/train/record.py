"""The files of a run directory that describe the run: the record of its epochs, its environment, its confusions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch

import repfold
from repfold import atomic, processor, run_files
from repfold.errors import RepFoldError
from repfold.optim import Rules, explain
from repfold.train import privacy
from repfold.train.events import Record


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn what the system says when files cannot be written into an error that says what is still good."""
    try:
        yield
    except OSError as error:
        checkpoint = directory / run_files.CHECKPOINT
        kept = f" The last good checkpoint is kept: {checkpoint}." * checkpoint.exists()
        raise RepFoldError(
            f"{directory} cannot be written: {error.strerror or error}.{kept} Make room, or check the directory's "
            "permissions, and go on with --resume."
        ) from error


def found(directory: Path) -> list[str]:
    """Return the names of what a run has left in ``directory``, the most telling first."""
    known = dict.fromkeys((run_files.CHECKPOINT, run_files.RECORD, *run_files.NAMES))
    return [name for name in known if (directory / name).exists()]


def clear(directory: Path) -> None:
    """Remove the files of an earlier run from ``directory``, and nothing else. Only who made it may ask for this.

    Raises: RepFoldError when they cannot be removed.
    """
    with writing(directory):
        for name in found(directory):
            (directory / name).unlink()


def write_records(directory: Path, records: Sequence[Record]) -> None:
    """Write record.jsonl, one epoch a line; whole, so that it never ends in half a line."""
    lines = [json.dumps(record, allow_nan=False) for record in records]
    atomic.write_text(directory / run_files.RECORD, "".join(f"{line}\n" for line in lines))


def write_confusion(directory: Path, classes: Sequence[str], matrix_TP: torch.Tensor) -> None:
    """Write confusion.json: rows are true classes, columns predicted ones."""
    content = {"classes": list(classes), "matrix_TP": matrix_TP.tolist()}
    atomic.write_json(directory / run_files.CONFUSION, content)


def write_rules(directory: Path, rules: Rules) -> None:
    """Write rules.json: what gradients are multiplied with, and why."""
    atomic.write_json(directory / run_files.RULES, explain(rules))


def write_environment(directory: Path, content: dict[str, Any]) -> None:
    """Write environment.json: where the run happens (see ``environment``) and ``content``, without home directories."""
    atomic.write_json(directory / run_files.ENVIRONMENT, privacy.without_homes(environment() | content), indent=2)


def environment() -> dict[str, Any]:
    """What a result may depend on besides its recipe: versions, commit, processor."""
    return {
        "repfold": repfold.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "cpu": processor.name(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "command": privacy.command(sys.argv),
    }


def _commit() -> str | None:
    """The commit of the sources that run, when they are in a git repository; with "+" when they were changed."""
    sources = str(Path(__file__).parent)
    try:
        answers = [
            subprocess.run(["git", "-C", sources, *command], capture_output=True, text=True, timeout=5, check=True)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", sources])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0].stdout.strip() + ("+" if answers[1].stdout.strip() else "")
