"""The plan of a study: what would be trained, and how long that would take, measured on a few steps of each kind."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import torch

from repfold.errors import RepFoldError
from repfold.study import rounds
from repfold.study.store import Store
from repfold.study.study import Study
from repfold.study.trial import Trial
from repfold.train import pace
from repfold.train.assemble import assemble
from repfold.train.distributed import Ranks
from repfold.train.events import Pace, ignore
from repfold.train.machine import choose, prepare_process
from repfold.train.recipe import Recipe
from repfold.train.settings import resolve

# Fields that do not change how long a step takes.
_FREE_OF_COST = (
    "lr lr_batch schedule warmup warmup_shape warmup_mode seed data_seed weight_decay momentum nesterov "
    "label_smoothing epochs val_precision checkpoint_every checkpoint_seconds train_sample scales teacher init"
).split()


@dataclass(frozen=True)
class Cost:
    """How long a training takes: to begin, and each step and evaluation."""

    start: float
    pace: Pace
    steps_per_epoch: int

    def seconds(self, epochs: int) -> float:
        """Return how long so many epochs take."""
        return self.start + self.pace.of(epochs, self.steps_per_epoch)


@dataclass(frozen=True)
class PlannedArm:
    """An arm: its trials, those of them that are finished, and how long one takes; None where that failed, with why."""

    name: str
    trials: int
    finished: int
    seconds: float | None
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """All arms, those that come before among them, and how many are trained at a time."""

    arms: tuple[PlannedArm, ...]
    jobs: int
    threads: int

    @property
    def missing(self) -> int:
        """Trials to be trained."""
        return sum(arm.trials - arm.finished for arm in self.arms)

    @property
    def seconds(self) -> float:
        """How long all of that takes."""
        return sum((arm.trials - arm.finished) * (arm.seconds or 0.0) for arm in self.arms) / min(
            self.jobs, max(1, self.missing)
        )


def make_plan(study: Study, store: Store, jobs: int, threads: int, *, trust: bool = False) -> Plan:
    """Return the plan; nothing is written.

    Raises: RepFoldError when data cannot be read.
    """
    of_seeds = rounds.rounds(study, store)
    groups: dict[str, list[Trial]] = {f"before: {name}": [t] for name, t in rounds.trials_before(study).items()}
    for trial in rounds.in_order(of_seeds):
        groups.setdefault(trial.arm, []).append(trial)
    costs = _measured([trials[0] for trials in groups.values()], jobs, threads, trust)
    arms = []
    for name, trials in groups.items():
        cost = costs[_kind(trials[0].recipe)]
        known = isinstance(cost, Cost)
        seconds = cost.seconds(trials[0].recipe.epochs) if isinstance(cost, Cost) else None
        finished = sum(store.finished(trial) is not None for trial in trials)
        arms.append(PlannedArm(name, len(trials), finished, seconds, "" if known else str(cost)))
    return Plan(tuple(arms), jobs, threads)


def _measured(trials: Sequence[Trial], jobs: int, threads: int, trust: bool) -> Mapping[str, Cost | str]:
    """Measure each kind once, as many at a time as will be trained at a time: they slow each other down."""
    kinds = {_kind(trial.recipe): trial for trial in reversed(trials)}
    context = multiprocessing.get_context("forkserver")
    costs: dict[str, Cost | str] = {}
    with ProcessPoolExecutor(max_workers=min(jobs, len(kinds)), mp_context=context) as workers:
        asked = {workers.submit(measure, trial.recipe, threads, trust): kind for kind, trial in kinds.items()}
        for done in as_completed(asked):
            costs[asked[done]] = done.result()
    return costs


def measure(recipe: Recipe, threads: int, trust: bool = False) -> Cost | str:
    """Return how long a training of ``recipe`` takes; why it cannot be trained, when it cannot."""
    torch.set_num_threads(threads)
    began = time.perf_counter()
    # What another training has to make first changes nothing of the time.
    free = {name: "" for name in ("scales", "teacher", "init") if "{" in getattr(recipe, name)}
    settings = resolve(recipe.replace(**free))
    machine = choose(recipe)
    prepare_process(machine)
    try:
        run = assemble(settings, machine, Ranks(), ignore, trust=trust)
        start = time.perf_counter() - began
        return Cost(start, pace.measure(run), run.steps_per_epoch)
    except Exception as error:  # the plan tells it, and the other arms go on
        return str(error) if isinstance(error, RepFoldError) else f"{type(error).__name__}: {error}"


def _kind(recipe: Recipe) -> str:
    return repr({name: value for name, value in vars(recipe).items() if name not in _FREE_OF_COST})
