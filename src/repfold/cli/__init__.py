"""The command line: every command is one function in a file of its own; this module parses, calls it and prints errors.

A command takes typed keyword arguments (tyro makes the flags from them), calls the library and prints.
"""

from __future__ import annotations

import sys

from repfold.cli.commands import COMMANDS, overview
from repfold.cli.process import guarded
from repfold.cli.resume_words import spell_resume
from repfold.cli.terminal import echo


@guarded
def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes are those of ``guarded`` and of ``answers``."""
    given = sys.argv[1:] if arguments is None else arguments
    name = given[0] if given else ""
    if name in COMMANDS:
        _run(name, given[1:])
    elif name in ("-h", "--help", "help"):
        echo(overview())
    elif name in ("--version", "-V"):
        echo(_versions())
    else:
        echo(_unknown(name) if name else overview(), error=True)
        sys.exit(2)


def _run(name: str, words: list[str]) -> None:
    from repfold.cli import answers

    try:
        from repfold.cli.parsing import call

        call(name, COMMANDS[name], spell_resume(words))
    except Exception as error:
        sys.exit(answers.give(error))


def _versions() -> str:
    import platform
    from importlib import metadata

    return (
        f"repfold {metadata.version('repfold')}, torch {metadata.version('torch')}, Python {platform.python_version()}"
    )


def _unknown(name: str) -> str:
    from repfold.errors import nearest

    if name.startswith("-"):
        return f"repfold: {name} stands before a command. Commands and their options: repfold --help"
    return f"repfold: Unknown command '{name}'. {nearest(name, COMMANDS)} All commands: repfold --help"
