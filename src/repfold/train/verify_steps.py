"""Whether a run's steps, done again, give the same bits.

What proves most comes first: from the beginning to the last checkpoint, or from the one before it. Where these are too
far apart, or something has changed since, the same steps are done twice and compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repfold.counted import counted
from repfold.errors import RepFoldError
from repfold.train import recipe_file, surroundings
from repfold.train.assemble import Assembly, assemble
from repfold.train.distributed import Ranks
from repfold.train.events import ignore
from repfold.train.last_checkpoints import Found
from repfold.train.machine import choose, prepare_process
from repfold.train.position import Position
from repfold.train.recipe import Recipe, difference
from repfold.train.replay import differences, replay
from repfold.train.settings import resolve

_SHOWN = 3


@dataclass(frozen=True)
class Stretch:
    """Steps to do again: from the contents of a checkpoint (None: the beginning) to a position.

    ``known``: the contents of the run's own checkpoint there, or None when there is none; ``why``: why then not.
    """

    start: dict[str, Any] | None
    until: Position
    known: dict[str, Any] | None
    why: str = ""


def check_steps(
    directory: Path, found: Sequence[Found], steps: int, factory: str | None, trust: bool
) -> tuple[Any, str]:
    """Do at most ``steps`` steps of a run again. ``found``: its checkpoints, the last one first.

    Returns: "passed", "failed" or "skipped", and a sentence.
    """
    if steps < 1:
        return "skipped", "none were asked for"
    try:
        recipe = recipe_file.from_toml(found[0].content["recipe"], name=str(found[0].path))
        if ":" in recipe.model and factory != recipe.model and not trust:
            return "skipped", f"the network is code, {recipe.model}: if you trust it, say --trust"
        run = _assemble(recipe, directory, found[0], trust)
        stretch = _choose(recipe, run, [entry.content for entry in found], steps)
        if stretch is None:
            return "skipped", "the run is complete, and no checkpoint before its end is left"
        again = replay(run, stretch.start, stretch.until, ignore)
        known = stretch.known or replay(run, stretch.start, stretch.until, ignore)
    except RepFoldError as error:
        return "failed", str(error)
    return _judge(stretch, run, again, known)


def _judge(stretch: Stretch, run: Assembly, again: dict[str, Any], known: dict[str, Any]) -> tuple[str, str]:
    begun = _position(stretch.start)
    count = stretch.until.index(run.steps_per_epoch) - begun.index(run.steps_per_epoch)
    whence = "the beginning" if stretch.start is None else str(begun)
    described = f"{counted(count, 'step') if count else 'no steps'}, and evaluations, from {whence} to {stretch.until}"
    described += ", to the last checkpoint" if stretch.known else f", twice ({stretch.why})"
    odd = differences(again, known)
    if not odd:
        return "passed", f"{described}: equal to the last bit"
    described += f": {len(odd)} values differ, such as {', '.join(odd[:_SHOWN])}"
    if run.machine.device.type != "cpu":
        return "skipped", f"{described}; on GPUs equal bits are not promised"
    return "failed", described


def _assemble(recipe: Recipe, directory: Path, found: Found, trust: bool) -> Assembly:
    """The run, with as many threads as it had, which its bits depend on."""
    recipe = recipe.replace(checkpoint_every=0, checkpoint_seconds=1e9)
    before = surroundings.from_dict(found.content.get("surroundings"))
    machine = choose(recipe)
    if before is not None:
        machine = replace(machine, threads=before.threads)
    prepare_process(machine)
    return assemble(resolve(recipe), machine, Ranks(), ignore, resumed=directory, trust=trust)


def _choose(recipe: Recipe, run: Assembly, contents: Sequence[dict[str, Any]], steps: int) -> Stretch | None:
    an_epoch = run.steps_per_epoch
    last, previous = contents[0], contents[1] if len(contents) > 1 else None
    end, begun = _position(last), _position(previous)
    distance = end.index(an_epoch) - begun.index(an_epoch)
    why = _changed(recipe, run, contents)
    if not why and not recipe.init and 0 < end.index(an_epoch) <= steps:  # what init names may have changed
        return Stretch(None, end, last)
    if not why and begun != end and 0 <= distance <= steps:
        return Stretch(previous, end, last)
    if previous is None:
        previous, begun = last, end
    count = min(steps, recipe.epochs * an_epoch - begun.index(an_epoch))
    if count < 1:
        return None
    until = Position(*divmod(begun.index(an_epoch) + count, an_epoch))
    return Stretch(previous, until, None, why or f"the last checkpoint is {distance} steps on; see --steps")


def _position(content: dict[str, Any] | None) -> Position:
    """Where the checkpoint of these contents is; None is the beginning."""
    return Position(content["state"]["epoch"], content["state"]["step"]) if content else Position(0, 0)


def _changed(recipe: Recipe, run: Assembly, contents: Sequence[dict[str, Any]]) -> str:
    """What keeps the steps from giving the bits of the run's own checkpoint, or ""."""
    now = surroundings.of(run)
    for content in contents:
        before = surroundings.from_dict(content.get("surroundings"))
        if before is None:
            return "the checkpoint does not say what it was trained with"
        if surroundings.changed_data(before, now):
            raise RepFoldError(f"the data have changed: {surroundings.changed_data(before, now)}.")
        if before != replace(now, data=before.data):
            names = [name for name in surroundings.NAMES if getattr(before, name) != getattr(now, name)]
            return f"trained with {', '.join(f'{name} {getattr(before, name)}' for name in names)}"
        if difference(recipe_file.from_toml(content["recipe"]), recipe):
            return "the recipe was changed between the checkpoints"
    return ""
