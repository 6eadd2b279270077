"""Arms at their best values of some axes: chosen for each seed by the others, so that the choice flatters no arm.

What is best on the seeds that it is judged by looks better than it is, the more values there are to choose from. Here
the values with the best mean over the other seeds are taken for a seed (leave one out), and its own run judges them.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from repfold.study.comparison import Comparison
from repfold.study.metrics import METRICS
from repfold.study.results import ArmResult, Run, compared, corrected
from repfold.study.study import Arm, Study


def at_their_best(study: Study, arms: Sequence[ArmResult]) -> tuple[ArmResult, ...]:
    """Return an arm for each of those that differ in the axes ``study.best_over`` alone; none when there are no such.

    Each is compared with that of the reference. Those of fewer than two seeds are left out.
    """
    if not study.best_over:
        return ()
    families: dict[str, list[ArmResult]] = {}
    for result in arms:
        families.setdefault(_family(result.arm, study), []).append(result)
    sign = METRICS[study.metric].sign
    chosen = {name: choose([_by_seed(one) for one in family], sign) for name, family in families.items()}
    made = [_arm(name, families, picked, arms, study) for name, picked in chosen.items() if picked]
    return tuple(corrected([compared(result, made, study) for result in made if _has(result, made)]))


def choose(cells: Sequence[Mapping[int, float]], sign: int) -> dict[int, int]:
    """Return seed -> index of the cell to judge with it: the one that is best on average over the other seeds.

    ``cells``: of each, seed -> value; only seeds that all have are used, and there have to be two.
    """
    common = set.intersection(*(set(cell) for cell in cells)) if cells else set()
    if len(common) < 2:
        return {}
    picked = {}
    for seed in sorted(common):
        means = [sign * statistics.fmean(cell[other] for other in common if other != seed) for cell in cells]
        picked[seed] = means.index(max(means))
    return picked


def _by_seed(result: ArmResult) -> dict[int, float]:
    return {run.seed: run.value for run in result.runs}


def _family(arm: Arm, study: Study) -> str:
    rest = {axis: value for axis, value in arm.axes.items() if axis not in study.best_over}
    return ", ".join([arm.group, *(f"{axis}={value}" for axis, value in rest.items())])


def _arm(
    name: str,
    families: Mapping[str, Sequence[ArmResult]],
    picked: Mapping[int, int],
    arms: Sequence[ArmResult],
    study: Study,
) -> ArmResult:
    family = families[name]
    usual = family[Counter(picked.values()).most_common(1)[0][0]].arm
    values = ", ".join(f"{axis} {usual.axes[axis]}" for axis in study.best_over if axis in usual.axes)
    runs = tuple(_run(family[cell], seed) for seed, cell in picked.items())
    against = next(result.arm for result in arms if result.arm.name == usual.reference)
    reference = _title(_family(against, study), study)
    arm = replace(usual, name=_title(name, study), reference=reference, changes={**usual.changes, "mostly": values})
    failed = tuple(failure for result in family for failure in result.failed)
    return ArmResult(arm, runs, failed, Comparison(0))


def _title(family: str, study: Study) -> str:
    return f"{family} at its best {' and '.join(study.best_over)}"


def _run(result: ArmResult, seed: int) -> Run:
    return next(run for run in result.runs if run.seed == seed)


def _has(result: ArmResult, made: Sequence[ArmResult]) -> bool:
    return any(other.arm.name == result.arm.reference for other in made)
