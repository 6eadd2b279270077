"""From the words of a command line to the call of a command's function.

The flags are made by tyro of the function's parameters. Options may stand anywhere, between the files too.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import textwrap
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import tyro

from repfold.cli.commands import Command

# --json and no --no-json; a value that may be left out is left out, and not written None.
_SILENT = ("None", "True", "False", "")
_WIDEST = 100  # columns of a description
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


def call(name: str, command: Command, words: Sequence[str]) -> None:
    """Call the command ``name`` with what ``words`` say.

    Raises: SystemExit after help was printed, or the reason why the words make no sense.
    """
    function = command.function(name)
    bound, strays = _parse(name, function, command, words)
    if strays and not _take_in(bound, strays):
        _parse(name, function, command, words, strict=True)  # which says what is wrong with them
    function(*bound.args, **bound.kwargs)


def _parse(
    name: str, function: Callable[..., Any], command: Command, words: Sequence[str], *, strict: bool = False
) -> tuple[inspect.BoundArguments, list[str]]:
    """Return the function's arguments, and words that belong to none of them; ``strict`` refuses those."""
    signature = inspect.signature(function)

    def capture(*values: Any, **named: Any) -> inspect.BoundArguments:
        return signature.bind(*values, **named)

    given = typing.get_type_hints(function, include_extras=True)
    hints = {name: _brief(hint, signature.parameters.get(name)) for name, hint in given.items()}
    capture.__annotations__, capture.__doc__ = hints, _unfolded(inspect.getdoc(function) or "")
    parameters = [p.replace(annotation=hints[name]) for name, p in signature.parameters.items()]
    capture.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    description = f"{_description(function)}\n\nexample:\n  {command.example}"
    common: dict[str, Any] = {"prog": f"repfold {name}", "description": description, "config": CONFIG}
    if strict:
        return tyro.cli(capture, args=list(words), **common), []
    bound, strays = tyro.cli(capture, args=list(words), return_unknown_args=True, **common)
    return bound, strays


def _brief(hint: Any, parameter: inspect.Parameter | None) -> Any:
    """The annotation of a parameter, such that help names positions, and no default that says nothing."""
    origin, *markers = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    named = [marker for marker in markers if not dataclasses.is_dataclass(marker)]
    changes: dict[str, Any] = {
        "help_behavior_hint": lambda default: "" if default in _SILENT else f"(default: {default})"
    }
    positional = parameter is not None and parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    if parameter is not None and positional and typing.get_origin(origin) is not Literal:
        optional = parameter.default is not inspect.Parameter.empty
        changes["metavar"] = f"[{parameter.name.upper()}]" if optional else parameter.name.upper()
    given: Any = next((marker for marker in markers if dataclasses.is_dataclass(marker)), tyro.conf.arg())
    if given.help_behavior_hint:
        del changes["help_behavior_hint"]
    described = dataclasses.replace(given, **changes)
    return Annotated[(origin, *named, described)]


def _take_in(bound: inspect.BoundArguments, strays: Sequence[str]) -> bool:
    """Add files that stood behind an option to the files before it; return whether they are such."""
    if any(word.startswith("-") and word != "-" for word in strays):
        return False
    for parameter in bound.signature.parameters.values():
        value = bound.arguments.get(parameter.name)
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and isinstance(value, tuple) and value:
            bound.arguments[parameter.name] = (*value, *(type(value[0])(word) for word in strays))
            return True
    return False


def _unfolded(text: str) -> str:
    """A docstring whose arguments have a line each, since help is wrapped as wide as the terminal."""
    head, mark, arguments = text.partition("\n\nArgs:\n")
    return head + mark + re.sub(r"\n {5,}", " ", arguments)


def _description(function: Callable[..., Any]) -> str:
    """The docstring without the arguments, wrapped; tyro would join lines again that begin with a letter."""
    paragraphs = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0].split("\n\n")
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    wrapped = (textwrap.fill(" ".join(text.split()), width, subsequent_indent="  ") for text in paragraphs)
    return "\n\n".join(wrapped)
