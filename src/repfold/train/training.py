"""From a recipe to a finished run: what is assembled, restored, trained and returned."""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from repfold.data import refuse_inside
from repfold.schedule import ScheduleWarning
from repfold.train import distributed, requirements, resuming, run_lock, stopping
from repfold.train.assemble import assemble
from repfold.train.checkpoint import State
from repfold.train.events import Listener, Note, Record, Started, ignore
from repfold.train.last_checkpoints import Found
from repfold.train.loop import Loop
from repfold.train.machine import choose, prepare_process
from repfold.train.pace import measure
from repfold.train.recipe import Recipe
from repfold.train.run_directory import RunDirectory, find_checkpoint
from repfold.train.settings import resolve
from repfold.train.summary import summary


@dataclass(frozen=True)
class RunResult:
    """A finished run: its directory, a record for each epoch, and the best epoch by validation top-1 (percent).

    ``classes``: those of the data.
    """

    directory: Path
    records: tuple[Record, ...]
    best_epoch: int
    best_top1: float
    classes: tuple[str, ...] = ()


def train(
    recipe: Recipe,
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    override: bool = False,
    trust: bool = False,
    on_event: Listener | None = None,
) -> RunResult:
    """Train what ``recipe`` describes, and write the run into ``directory``.

    With ``resume`` a run that was stopped or killed goes on where its checkpoint is, within an epoch too, to the same
    weights (on CPUs in float32 bit for bit); one without a checkpoint begins. ``override`` accepts a recipe that
    differs from the checkpoint's, or data that do. The recipe's own model may be code; with ``trust`` so may be what
    its teacher's file names. Seeds the global random numbers.

    Raises: RepFoldError for what the user can mend; Stopped after a signal (SIGINT, SIGTERM, SIGHUP, SIGUSR1,
    SIGXCPU), with a checkpoint written; RunLostError when the directory is deleted meanwhile.
    """
    directory, settings = Path(directory), resolve(recipe)
    refuse_inside(recipe.data, directory)
    machine = choose(recipe)
    prepare_process(machine)
    with distributed.joined(machine.device) as ranks, ExitStack() as stack:
        emit = (on_event or ignore) if ranks.leads else ignore
        with ranks.together():  # so that none takes the files of another, which has just begun, for an older run
            lock = stack.enter_context(run_lock.held(directory)) if ranks.leads else None
            found = find_checkpoint(directory, recipe, resume, override)
        run = assemble(settings, machine, ranks, emit, resumed=directory if found else None, trust=trust)
        state = _run(RunDirectory(directory, run, lock), found, override, emit)
    return RunResult(directory, tuple(state.records), state.best_epoch, state.best_top1, run.source.classes)


def _run(files: RunDirectory, found: Found | None, override: bool, emit: Listener) -> State:
    """Restore the run from the checkpoint that was ``found``, and train it to its end; return where that is."""
    run, state = files.run, State()
    if found is not None:
        state = resuming.restore(found, run, override, emit)
    for shortage in requirements.check(run, files.path):
        emit(Note(shortage))
    if changed := files.begin(state, found):
        emit(Note(changed, severe=True))
    pace = measure(run) if emit is not ignore and run.ranks.world == 1 else None
    epochs, steps = run.settings.epochs, run.steps_per_epoch
    emit(Started(summary(run), state.epoch, epochs, state.step, steps, len(run.source.classes), pace))
    with stopping.on_signals() as stop, warnings.catch_warnings():
        warnings.simplefilter("ignore", ScheduleWarning)  # emitted once, by assemble
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        Loop(files, emit, stop).to_the_end(state)
    return state
