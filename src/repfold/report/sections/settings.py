"""The complete recipe and the environment; of several, what differs stands first and is marked."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from repfold.report import wording
from repfold.report.arms import Arm, differing_keys
from repfold.report.markup import Markup, join, tag
from repfold.report.results import Report
from repfold.report.tables import Column, Table, to_html

Settings = Mapping[str, str]


def recipe(report: Report) -> Markup | None:
    """Return all keys of the recipes, a column per arm; the seeds of an arm's runs stand together."""
    named = [(arm.title, _recipe(arm)) for arm in report.arms if arm.runs[0].recipe]
    return _settings(named, len(report.arms), "recipe")


def environment(report: Report) -> Markup | None:
    """Return machine, software and chosen settings, a column for each environment that differs."""
    together: dict[str, tuple[list[str], Settings]] = {}
    for run in report.runs:
        if run.environment:
            found = flat(run.environment)
            # The command line differs with each seed, which does not make it another environment.
            same = sorted((key, value) for key, value in found.items() if key != "command" or len(report.runs) == 1)
            together.setdefault(repr(same), ([], dict(same)))[0].append(run.name)
    named = [(", ".join(names), found) for names, found in together.values()]
    return _settings(named, len(report.runs), "environment")


def flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Return nested settings as one level of written values: {"a": {"b": 1}} -> {"a.b": "1"}."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        elif key == "command" and isinstance(value, list):
            found[f"{prefix}{key}"] = shlex.join(str(word) for word in value)
        else:
            found[f"{prefix}{key}"] = wording.plain(value) if value != "" else "(empty)"
    return found


def _recipe(arm: Arm) -> Settings:
    seeds = dict.fromkeys(wording.plain(run.recipe.get("seed")) for run in arm.runs)
    found = flat(arm.runs[0].recipe)
    return {**found, "seed": ", ".join(seeds)} if "seed" in found else found


def _settings(named: Sequence[tuple[str, Settings]], of: int, what: str) -> Markup | None:
    if not named:
        return None
    differing = differing_keys([found for _, found in named])
    shared = [key for key in named[0][1] if key not in differing]
    absent = of - len(named) if what == "recipe" else 0
    missing = tag("p", f"{absent} of {of} arms have no {what}.", class_="quiet") if absent else None
    return join([missing, _differing(named, differing, what), _shared(named[0][1], shared, bool(differing))])


def _differing(named: Sequence[tuple[str, Settings]], keys: Sequence[str], what: str) -> Markup | None:
    if not keys:
        return tag("p", f"The {what} is the same for all runs.", class_="quiet") if len(named) > 1 else None
    heads = (Column("differs"), *(Column(name) for name, _ in named))
    rows = tuple((tag("code", key), *(found.get(key, wording.ABSENT) for _, found in named)) for key in keys)
    return to_html(Table(heads, rows, marked=frozenset(range(len(rows)))))


def _shared(found: Settings, keys: Sequence[str], some_differ: bool) -> Markup | None:
    if not keys:
        return None
    pairs = [tag("div", tag("dt", key), tag("dd", found[key])) for key in keys]
    listed = tag("dl", *pairs, class_="settings")
    return join([tag("h3", "The same for all") if some_differ else None, listed])
