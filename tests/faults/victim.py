"""A training that says in which stage it is, so that it can be killed there: by import, or as a script for torchrun.

REPFOLD_STAGES=FILE python tests/faults/victim.py train digits --out RUN ...
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from repfold import deploy
from repfold.cli import main
from repfold.train import checkpoint, loop

# What ``finish_run`` says it begins with -> the stage.
FINISHING = {
    "folding": "fold",
    "exporting": "export",
    "timing": "timing",
    "looking at mistakes": "look",
    "reporting": "report",
}


def run(arguments: list[str], stages: str, log: str) -> None:
    """Run the command line, telling its stages in the file ``stages`` and what it prints in ``log``."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _tell_stages(stages)
    main(arguments)


def _tell_stages(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(stage: str) -> None:
        os.write(descriptor, f"{time.monotonic():.4f} {os.getpid()} {stage}\n".encode())

    def telling(function: Callable[..., Any], stage: str, after: str) -> Callable[..., Any]:
        def wrapped(*given: Any, **more: Any) -> Any:
            tell(stage)
            try:
                return function(*given, **more)
            finally:
                tell(after)

        return wrapped

    loop.step = telling(loop.step, "step", "step")
    loop.Loop._end_epoch = telling(loop.Loop._end_epoch, "epoch", "step")
    checkpoint.save = telling(checkpoint.save, "checkpoint", "step")
    finish = deploy.finish_run

    def finishing(directory: Any, *, on_stage: Callable[[str], None], **more: Any) -> Any:
        return finish(directory, on_stage=lambda stage: (tell(FINISHING.get(stage, stage)), on_stage(stage)), **more)

    deploy.finish_run = finishing
    tell("start")


if __name__ == "__main__":
    _tell_stages(os.environ["REPFOLD_STAGES"])
    main(sys.argv[1:])
