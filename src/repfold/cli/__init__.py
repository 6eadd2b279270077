"""The command line: every command is one function in a file of its own; this module parses, calls it and prints errors.

A command takes typed keyword arguments (tyro makes the flags from them), calls the library and prints.
"""

from __future__ import annotations

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
from repfold.cli.process import guarded
from repfold.cli.profile import profile
from repfold.cli.quantize import quantize
from repfold.cli.recipes import recipes
from repfold.cli.report import report
from repfold.cli.schedule import schedule
from repfold.cli.train import spell_resume, train
from repfold.cli.verify import verify

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
    "quantize": quantize,
    "recipes": recipes,
    "report": report,
    "schedule": schedule,
    "train": train,
    "verify": verify,
}


@guarded
def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes are those of ``guarded`` and of ``answers``."""
    import tyro

    given = sys.argv[1:] if arguments is None else arguments
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="repfold", args=spell_resume(given))
    except Exception as error:
        sys.exit(answers.give(error))
