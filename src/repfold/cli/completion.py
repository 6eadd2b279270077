"""``repfold completion``: the script by which a shell completes commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro


def completion(shell: Annotated[Literal["bash", "zsh", "tcsh"], tyro.conf.Positional], /) -> None:
    """Print the completion script for a shell, which knows every command and option.

    Write it where the shell looks for such scripts: for bash as in the example, for zsh into a folder of $fpath as
    _repfold. It belongs to this version of RepFold: write it again after an update.

    Args:
        shell: The shell to print it for.
    """
    from repfold.cli.commands import COMMANDS
    from repfold.cli.parsing import CONFIG

    functions = {name: command.function(name) for name, command in COMMANDS.items()}
    tyro.extras.subcommand_cli_from_dict(
        functions, prog="repfold", args=["--tyro-print-completion", shell], config=CONFIG
    )
