"""The command line: every command is one function in a file of its own; this module parses, calls it and prints errors.

A command takes typed keyword arguments (tyro makes the flags from them), calls the library and prints.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

from repfold.cli import answers
from repfold.cli.advise import advise
from repfold.cli.augment import augment
from repfold.cli.bench import bench
from repfold.cli.convert import convert
from repfold.cli.demo import demo
from repfold.cli.deploy import deploy
from repfold.cli.engine import engine
from repfold.cli.evaluate import evaluate
from repfold.cli.export import export
from repfold.cli.find_lr import find_lr
from repfold.cli.fold import fold
from repfold.cli.predict import predict
from repfold.cli.profile import profile
from repfold.cli.recipes import recipes
from repfold.cli.report import report
from repfold.cli.schedule import schedule
from repfold.cli.train import train

COMMANDS: dict[str, Callable[..., Any]] = {
    "advise": advise,
    "augment": augment,
    "bench": bench,
    "convert": convert,
    "demo": demo,
    "deploy": deploy,
    "evaluate": evaluate,
    "engine": engine,
    "export": export,
    "find-lr": find_lr,
    "fold": fold,
    "predict": predict,
    "profile": profile,
    "recipes": recipes,
    "report": report,
    "schedule": schedule,
    "train": train,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exit code 0: done; 2: what the user or the machine can mend, told in one message; 1: a fault of RepFold; 130:
    interrupted; 141: whoever read the output left.
    """
    import tyro

    _show_any_name()
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="repfold", args=arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if isinstance(error, BrokenPipeError):  # Python would flush into it once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(answers.give(error))


def _show_any_name() -> None:
    """Have names of files that are no UTF-8 text printed with their bytes escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
