"""What the comments of a recipe file say of its results, so that figures stand beside the settings that they are of.

    # ResNet-18 on CIFAR-10 under five schedules.
    # published schedule=step: 94.39 % top-1
    # reached schedule=cosine batch=64: 94.6 ± 0.1 % top-1, n = 3, docs/results/cifar10.md

``published`` is what others report, ``reached`` what was measured with RepFold, and where that is recorded. Settings
are those that differ from the file's.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from repfold.errors import RepFoldError
from repfold.train.recipe import Recipe, check_names, field_types

_LINE = re.compile(r"#\s*(published|reached)((?:\s+\w+=\S+)*)\s*:\s+(.+)")


@dataclass(frozen=True)
class Remark:
    """One figure: ``kind`` is "published" or "reached", ``settings`` what differs from the recipe, as written."""

    kind: str
    settings: dict[str, str]
    text: str

    def recipe(self, base: Recipe) -> Recipe:
        """Return the recipe that the figure is of. Raises: RepFoldError for settings that are none."""
        check_names(self.settings)
        return base.replace(**{name: _value(name, value) for name, value in self.settings.items()})

    def flags(self) -> str:
        """Return the settings as flags of ``repfold train``."""
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.settings.items())


def remarks(text: str) -> tuple[Remark, ...]:
    """Return the remarks in the comments of a recipe file, in order."""
    found = [match for line in text.splitlines() if (match := _LINE.fullmatch(line.strip()))]
    return tuple(
        Remark(kind, {key: value for key, _, value in (pair.partition("=") for pair in settings.split())}, remarks)
        for kind, settings, remarks in (match.groups() for match in found)
    )


def in_brief(remarks: tuple[Remark, ...]) -> str:
    """Return what is published and what was reached in a line: the best figure of each; "not run here" without any."""
    reached = [remark for remark in remarks if remark.kind == "reached"]
    published = [remark for remark in remarks if remark.kind == "published"]
    parts = [_spread("reached", reached) if reached else "not run here"]
    return "; ".join([*parts, *([_spread("published", published)] if published else [])])


def _spread(kind: str, remarks: list[Remark]) -> str:
    if len(remarks) == 1:
        return f"{kind} {remarks[0].text}"
    return f"{kind}: {remarks[0].text}, and {len(remarks) - 1} more"


def _value(name: str, text: str) -> Any:
    """Read a value as TOML where the field is no text."""
    if field_types().get(name) is str:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise RepFoldError(f"{name}={text} in a remark of a recipe cannot be read: {error}") from error
