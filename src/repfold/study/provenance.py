"""Where the figures of a study are from: machine, versions, commit, data, and how the trials were run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from repfold.counted import counted
from repfold.study.results import Results, Run
from repfold.train.recipe import Recipe

_MOST = 5  # of kinds of each fact


def provenance(results: Results) -> list[str]:
    """Return a line for each fact; where the trials differ in one, every kind of it, with how many had it."""
    runs = [run for arm in results.arms for run in arm.runs]
    lines = [f"{title}: {found}" for title, read in _FACTS.items() if (found := _kinds(runs, read))]
    lines += [f"recipe of all arms: {shared(results)}"]
    lines += [f"before the arms, {name}: {run.seconds / 60:.1f} minutes, {_data(run)}" for name, run in results.before]
    minutes = sum(run.seconds for run in runs) / 60
    if runs:
        lines.append(f"training: {minutes:.1f} minutes in all, of {counted(len(runs), 'trial')}")
    return lines


def shared(results: Results) -> str:
    """Return the fields that differ from a recipe's defaults in every arm alike, as ``name value``."""
    recipes = [arm.arm.recipe for arm in results.arms]
    default = Recipe()
    told = [
        f"{field.name} {_text(getattr(recipes[0], field.name))}"
        for field in dataclasses.fields(Recipe)
        if len({getattr(recipe, field.name) for recipe in recipes}) == 1
        and getattr(recipes[0], field.name) != getattr(default, field.name)
    ]
    return ", ".join(told) or "the defaults"


def _kinds(runs: list[Run], read: Any) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        if found := read(run):
            counts[found] = counts.get(found, 0) + 1
    if len(counts) < 2:
        return next(iter(counts), "")
    most = sorted(counts.items(), key=lambda item: -item[1])[:_MOST]
    return "; ".join(f"{text} ({counted(count, 'trial')})" for text, count in most) + (
        "; ..." if len(counts) > _MOST else ""
    )


def _machine(run: Run) -> str:
    found = run.environment
    gpus = ", ".join(found.get("gpus") or [])
    return f"{found.get('cpu', '?')}, {found.get('cores', '?')} cores" + (f", {gpus}" if gpus else "")


def _precision(run: Run) -> str:
    machine: Mapping[str, Any] = run.environment.get("machine", {})
    return f"{machine.get('device', '?')}, {machine.get('precision', '?')}, {_threads(machine)} a trial"


def _data(run: Run) -> str:
    data: Mapping[str, Any] = run.environment.get("data", {})
    if not data:
        return ""
    return (
        f"{data.get('name')}: {data.get('training_images')} training and {data.get('validation_images')} validation "
        f"images of {data.get('classes')} classes, {data.get('image_size')} px"
    )


_FACTS = {
    "machine": _machine,
    "trained on": _precision,
    "data": _data,
    "commit": lambda run: str(run.environment.get("commit") or ""),
    "PyTorch": lambda run: str(run.environment.get("torch") or ""),
    "finished": lambda run: str(run.result.get("finished", ""))[:10],
}


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _threads(machine: Mapping[str, Any]) -> str:
    threads = machine.get("threads")
    return "? threads" if threads is None else counted(threads, "thread")
