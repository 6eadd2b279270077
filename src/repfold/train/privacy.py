"""What a run directory may reveal of its author: no secrets of the command line, no home directories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from repfold.train.recipe import field_types

HIDDEN = "<not kept>"

_PROGRAMS = ("repfold", "__main__.py")
# Flags of the commands that train, besides the fields of a recipe.
_OTHERS = {
    *"data minutes recipe out resume override trust finish pictures tensorboard json".split(),
    *"low high steps plot".split(),
}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?:[^/@\s]*@)?(?P<rest>[^?#\s]*)(?P<asked>[?#]\S*)?")
_HOMES = re.compile(r"(?<![\w.~-])/(?:home|Users)/(?P<name>[^/\s:,;'\"]+)(?=[/\s:,;'\"]|$)")


def command(arguments: Sequence[str]) -> list[str]:
    """A command line without what may be a secret: RepFold's own flags with their values, of all else the flags alone.

    Of URLs the user, the password and what is asked for are left out too.
    """
    program, *words = arguments or [""]
    name = Path(program).name
    return [name, *(_of_repfold(words) if name in _PROGRAMS else _of_another(words))]


def without_homes(content: Any) -> Any:
    """``content``, plain values as JSON has them, with home directories in all texts as ~ (others' as ~name)."""
    if isinstance(content, str):
        return _without_homes(content)
    if isinstance(content, dict):
        return {without_homes(key): without_homes(value) for key, value in content.items()}
    return [without_homes(item) for item in content] if isinstance(content, (list, tuple)) else content


def _of_repfold(words: Sequence[str]) -> Iterator[str]:
    yield from words[:1]  # the command's name
    hiding = False
    for word in words[1:]:
        if not _is_flag(word):
            yield HIDDEN if hiding else _without_secrets(word)
            continue
        flag, equals, value = word.partition("=")
        hiding = not _is_known(flag)
        yield f"{flag}{equals}{HIDDEN if hiding and value else _without_secrets(value)}"


def _of_another(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        flag, equals, _ = word.partition("=")
        yield f"{flag}{equals}{HIDDEN if equals else ''}" if _is_flag(word) else HIDDEN


def _is_flag(word: str) -> bool:
    """Negative numbers are values."""
    return re.match(r"-[A-Za-z]|--[A-Za-z]", word) is not None


def _is_known(flag: str) -> bool:
    name = flag.lstrip("-").replace("-", "_")
    return flag == "-o" or bool({name, name.removeprefix("no_")} & (_OTHERS | field_types().keys()))


def _without_secrets(value: str) -> str:
    def plain(found: re.Match[str]) -> str:
        user = f"{HIDDEN}@" if "@" in found[0].removesuffix(found["asked"] or "") else ""
        rest = found["rest"].rpartition("@")[2]
        return f"{found['scheme']}{user}{rest}{'?' + HIDDEN if found['asked'] else ''}"

    return _URL.sub(plain, value)


def _without_homes(text: str) -> str:
    home = os.path.expanduser("~").rstrip("/")
    if home:
        text = re.sub(rf"(?<![\w.~-]){re.escape(home)}(?=[/\s:,;'\"]|$)", "~", text)
    return _HOMES.sub(r"~\g<name>", text)
