"""What the finished trials of a study give: of every arm its values by seed, and what follows from them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repfold import run_files
from repfold.report.numbers import finite, number
from repfold.study import rounds
from repfold.study.comparison import Comparison, compare, holm
from repfold.study.metrics import METRICS
from repfold.study.store import Failure, Store
from repfold.study.study import Arm, Study
from repfold.study.trial import Trial

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished trial: where it is, its epochs, what its file says, and where and by what it was made.

    ``current``: whether the code that it depends on is still what it was.
    """

    seed: int
    directory: Path
    epochs: tuple[Record, ...]
    result: Mapping[str, Any]
    environment: Mapping[str, Any]
    value: float
    current: bool = True

    @property
    def seconds(self) -> float:
        """How long it trained, evaluation included."""
        return float(self.result.get("seconds", 0.0))


@dataclass(frozen=True)
class ArmResult:
    """An arm: its finished runs by seed, the trials that failed, and how it compares with its reference.

    ``holm``: its p value corrected for the number of arms; None for the reference and where there is no p value.
    """

    arm: Arm
    runs: tuple[Run, ...]
    failed: tuple[tuple[Trial, Failure], ...]
    comparison: Comparison
    holm: float | None = None

    @property
    def values(self) -> list[float]:
        """The metric of each run."""
        return [run.value for run in self.runs]

    @property
    def mean(self) -> float | None:
        """Of the metric over the runs."""
        return statistics.fmean(self.values) if self.runs else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation of the metric over the runs."""
        return statistics.stdev(self.values) if len(self.runs) > 1 else None

    @property
    def seconds(self) -> float | None:
        """The median time of a run."""
        return statistics.median(run.seconds for run in self.runs) if self.runs else None


@dataclass(frozen=True)
class Results:
    """A study with what there is of it: ``total`` belong to it; ``before`` ran first; ``best``: see that file."""

    study: Study
    arms: tuple[ArmResult, ...]
    total: int
    before: tuple[tuple[str, Run], ...] = ()
    best: tuple[ArmResult, ...] = ()

    @property
    def finished(self) -> int:
        """Trials with a result."""
        return sum(len(arm.runs) for arm in self.arms)

    @property
    def outdated(self) -> int:
        """Finished trials of code that has changed since."""
        return sum(not run.current for arm in self.arms for run in arm.runs)

    @property
    def failed(self) -> int:
        """Trials that were tried and failed."""
        return sum(len(arm.failed) for arm in self.arms)

    def arm(self, name: str) -> ArmResult:
        """Return the arm of that name."""
        return next(result for result in self.arms if result.arm.name == name)


def read_results(study: Study, store: Store) -> Results:
    """Return what ``store`` holds of ``study``, finished or not. Raises: RepFoldError when data cannot be read."""
    store.look_again()
    of_seeds = rounds.rounds(study, store)
    trials = {arm.name: [of_seed[index] for of_seed in of_seeds] for index, arm in enumerate(study.arms)}
    alone = [_arm_alone(arm, trials[arm.name], study, store) for arm in study.arms]
    arms = tuple(corrected([compared(result, alone, study) for result in alone]))
    before = [(name, _run(trial, study, store)) for name, trial in rounds.trials_before(study).items()]
    total = sum(map(len, of_seeds))
    ran = tuple((name, run) for name, run in before if run is not None)
    return Results(study, arms, total, ran)


def paired(arm: Sequence[Run], reference: Sequence[Run]) -> list[float]:
    """Return arm - reference for each seed that both have, in the order of the seeds."""
    of_reference = {run.seed: run.value for run in reference}
    return [
        run.value - of_reference[run.seed] for run in sorted(arm, key=lambda run: run.seed) if run.seed in of_reference
    ]


def _arm_alone(arm: Arm, trials: Sequence[Trial], study: Study, store: Store) -> ArmResult:
    runs = [run for trial in trials if (run := _run(trial, study, store)) is not None]
    have = {run.seed for run in runs}
    failed = [(t, failure) for t in trials if t.seed not in have and (failure := store.failure(t)) is not None]
    return ArmResult(arm, tuple(runs), tuple(failed), Comparison(0))


def compared(result: ArmResult, arms: Sequence[ArmResult], study: Study) -> ArmResult:
    """Return ``result`` with its comparison with its reference, which is one of ``arms``."""
    reference = next(other for other in arms if other.arm.name == result.arm.reference)
    differences = paired(result.runs, reference.runs)
    sign = METRICS[study.metric].sign
    return replace(result, comparison=compare(differences, sign=sign, margin=study.margin))


def corrected(arms: Sequence[ArmResult]) -> list[ArmResult]:
    """Return ``arms`` with their p values corrected for their number."""
    tested = [arm for arm in arms if not arm.arm.is_reference and arm.comparison.p is not None]
    together = holm([arm.comparison.p for arm in tested if arm.comparison.p is not None])
    by_name = {arm.arm.name: p for arm, p in zip(tested, together, strict=True)}
    return [replace(arm, holm=by_name.get(arm.arm.name)) for arm in arms]


def _run(trial: Trial, study: Study, store: Store) -> Run | None:
    found = store.any_finished(trial)
    if found is None:
        return None
    directory, current = found
    result = store.result(directory) or {}
    epochs = run_files.epochs_of(directory)
    value = value_of(study.metric, study.epoch, epochs, result)
    environment = run_files.environment_of(directory)
    return None if value is None else Run(trial.seed, directory, epochs, result, environment, value, current)


def value_of(metric: str, epoch: str, epochs: Sequence[Record], result: Mapping[str, Any]) -> float | None:
    """Return the metric of a run: of its last or best epoch, or of the whole; None where it was not recorded."""
    if not epochs:
        return None
    if metric in result:
        value = number(result[metric])
    else:
        record = epochs[-1] if epoch == "last" else max(epochs, key=lambda one: number(one.get("val_top1")) or 0.0)
        of_train = number(record.get("train_top1"))
        error = None if of_train is None else 100 - of_train
        value = error if metric == "train_error" else number(record.get(metric))
    return value if finite(value) else None
