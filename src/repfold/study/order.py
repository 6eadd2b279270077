"""What a process that trains is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from repfold.study.code import Code
from repfold.study.trial import Trial


@dataclass(frozen=True)
class Order:
    """A trial, in which store, with how many threads of each of its processes, on which GPUs ("": as they are).

    ``code``: what the runner read of the code that the process has; None where it may have another, which it reads.
    """

    trial: Trial
    store: Path
    threads: int
    gpus: str = ""
    keep: bool = False
    trust: bool = False
    code: Code | None = None
