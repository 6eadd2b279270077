"""Running a study: what is missing of its trials is trained, seed by seed, here or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from repfold import allowance
from repfold.errors import RepFoldError
from repfold.study import pool, rounds
from repfold.study.events import Begun, Ended, Event, OutOfTime
from repfold.study.order import Order
from repfold.study.store import Store, check_writable
from repfold.study.study import Study
from repfold.study.trial import Trial

if TYPE_CHECKING:
    from repfold.study.on_ray import Cluster


@dataclass(frozen=True)
class Resources:
    """How a study is run.

    Attributes:
        jobs: trials at a time; 0: one a core, or one a GPU.
        threads: of each process of a trial; 0: the cores, divided among the jobs.
        hours: within which trials are begun; None: no limit.
        keep: keep the networks too.
        trust: run the code that the study's file names.
        on: "here" or "ray".
    """

    jobs: int = 0
    threads: int = 0
    hours: float | None = None
    keep: bool = False
    trust: bool = False
    on: str = "here"

    def divided(self, processes: int = 1) -> tuple[int, int]:
        """Return jobs, by default one a core or one a GPU, and threads of each process of a trial."""
        cores, gpus = allowance.cores(), torch.cuda.device_count()
        jobs = self.jobs or max(1, (gpus or cores) // processes)
        return jobs, self.threads or max(1, cores // (jobs * processes))


def run_study(study: Study, store: Store, resources: Resources, emit: Callable[[Event], None]) -> None:
    """Train the trials of ``study`` that ``store`` has no result of; those that failed before are tried again.

    A trial that fails is told to ``emit``, and leaves its error in the store; the others go on. Interrupted, the
    trainings write a checkpoint, and running the study once more goes on there.

    Raises: RepFoldError when the data, the store or the cluster cannot be used, or the study names code without trust.
    """
    refuse_code(study, resources)
    check_writable(store.path)
    before = list(rounds.trials_before(study).values())
    with _workers(resources, store, study.processes) as workers:
        workers.run(_Missing(store, [before], None, emit))
        of_seeds = rounds.rounds(study, store)
        every = [*before, *rounds.in_order(of_seeds)]
        finished = sum(store.finished(trial) is not None for trial in every)
        emit(Begun(finished, len(every), workers.jobs, workers.threads))
        workers.run(_Missing(store, of_seeds, resources.hours, emit))


def refuse_code(study: Study, resources: Resources) -> None:
    """Raise RepFoldError when a network of the study is code that a file names, and nobody said to trust it."""
    recipes = [*study.before.values(), *(arm.recipe for arm in study.arms)]
    code = sorted({recipe.model for recipe in recipes if ":" in recipe.model})
    if code and not resources.trust:
        raise RepFoldError(
            f"The study names a network that '{code[0]}' builds: that is code, which runs with your rights. If it is "
            "yours, or you trust whoever wrote it, say so: --trust."
        )


class _Missing:
    """Iterates over the trials without a result, in order, as long as there is time for a whole round of a seed.

    ``heard``: takes the events, and learns from them how long each arm takes.
    """

    def __init__(
        self, store: Store, of_seeds: Sequence[Sequence[Trial]], hours: float | None, emit: Callable[[Event], None]
    ) -> None:
        self.store, self.of_seeds, self.emit = store, of_seeds, emit
        self.seconds = None if hours is None else hours * 3600
        self.began, self.took = time.monotonic(), dict[str, float]()

    def heard(self, event: Event) -> None:
        if isinstance(event, Ended) and event.how == "trained":
            self.took[event.trial.arm] = event.seconds
        self.emit(event)

    def in_time(self, jobs: int) -> Iterator[Trial]:
        for index, of_seed in enumerate(self.of_seeds):
            missing = [trial for trial in of_seed if self.store.finished(trial) is None]
            if missing and not self._fits(missing, jobs):
                later = self.of_seeds[index:]
                left = sum(self.store.finished(trial) is None for trial in rounds.in_order(later))
                self.emit(OutOfTime(left))
                return
            yield from missing

    def _fits(self, missing: Sequence[Trial], jobs: int) -> bool:
        if self.seconds is None:
            return True
        usual = max(self.took.values(), default=0.0)
        expected = sum(self.took.get(trial.arm, usual) for trial in missing) / min(jobs, len(missing))
        return time.monotonic() - self.began + expected < self.seconds


class _Here:
    """A pool of processes on this machine."""

    def __init__(self, resources: Resources, store: Store, processes: int) -> None:
        self.store, self.resources, self.processes = store, resources, processes
        self.jobs, self.threads = resources.divided(processes)

    def run(self, missing: _Missing) -> None:
        store = self.store

        def order(trial: Trial) -> Order:
            assert store.code.whole, "all of it is read before anything is trained"
            return replace(_order(trial, store, self.resources, self.threads), code=store.code)

        pool.run(
            map(order, missing.in_time(self.jobs)),
            [self._gpus(slot) for slot in range(self.jobs)],
            missing.heard,
            is_free=lambda one: not store.is_claimed(one.trial.key),
        )

    def _gpus(self, slot: int) -> str:
        """The GPUs of the trial in a slot: its own, as long as there are enough."""
        here = torch.cuda.device_count()
        numbers = (slot * self.processes + number for number in range(self.processes))
        return ",".join(str(number % here) for number in numbers) if here > 1 else ""


class _OnRay:
    """A cluster: as many trials at a time as it has GPUs or, without, cores for."""

    def __init__(self, cluster: Cluster, resources: Resources, store: Store, processes: int) -> None:
        self.cluster, self.store, self.resources = cluster, store, resources
        self.threads = resources.threads or 1
        self.jobs = resources.jobs or max(1, (cluster.gpus or cluster.cores // self.threads) // processes)

    def run(self, missing: _Missing) -> None:
        orders = (_order(trial, self.store, self.resources, self.threads) for trial in missing.in_time(self.jobs))
        self.cluster.run(orders, self.jobs, missing.heard)


def _order(trial: Trial, store: Store, resources: Resources, threads: int) -> Order:
    return Order(trial, store.path.absolute(), threads, keep=resources.keep, trust=resources.trust)


@contextmanager
def _workers(resources: Resources, store: Store, processes: int) -> Iterator[_Here | _OnRay]:
    if resources.on == "here":
        yield _Here(resources, store, processes)
    else:
        from repfold.study import on_ray

        with on_ray.cluster() as cluster:
            yield _OnRay(cluster, resources, store, processes)
