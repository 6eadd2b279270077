"""The trials of a study, seed by seed, so that wherever it ends every arm has been trained with the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from repfold.study.store import Store
from repfold.study.study import Study
from repfold.study.trial import Trial, comparable, key_of
from repfold.train.recipe import Recipe

_TEXTS = ("scales", "teacher", "init")


def trials_before(study: Study) -> dict[str, Trial]:
    """Return the trainings that come before the arms, by name. Raises: RepFoldError when data cannot be read."""
    made: dict[str, Trial] = {}
    for name, recipe in study.before.items():
        fixed = comparable(recipe, recipe.seed)
        key = key_of(fixed, {}, processes=study.processes)
        made[name] = Trial("", fixed.seed, fixed, key, keeps_weights=True, processes=study.processes)
    return made


def rounds(study: Study, store: Store) -> list[list[Trial]]:
    """Return the trials of each seed, an arm each, in order.

    Raises: RepFoldError when data cannot be read, or an arm names a training before it that there is not.
    """
    before = {name: store.directory(trial) for name, trial in trials_before(study).items()}
    keys = {str(before[name]): f"trial {trial.key}" for name, trial in trials_before(study).items()}
    return [
        [_trial(arm.name, seed, placed(arm.recipe, before), keys, study) for arm in study.arms] for seed in study.seeds
    ]


def measured(study: Study) -> str:
    """Return what is to be measured of each trial besides its training."""
    return study.metric if study.metric == "int8_top1" else ""


def placed(recipe: Recipe, before: Mapping[str, Path]) -> Recipe:
    """Return ``recipe`` with the run directories in place of ``{NAME}``."""
    texts = {field: getattr(recipe, field) for field in _TEXTS}
    names = {f"{{{name}}}": str(path) for name, path in before.items()}
    changed = {field: names[text] for field, text in texts.items() if text in names}
    return recipe.replace(**changed) if changed else recipe


def in_order(of_seeds: Sequence[Sequence[Trial]]) -> Iterator[Trial]:
    """Yield all trials, seed by seed."""
    for of_seed in of_seeds:
        yield from of_seed


def _trial(arm: str, seed: int, recipe: Recipe, keys: Mapping[str, str], study: Study) -> Trial:
    fixed, measure = comparable(recipe, seed), measured(study)
    key = key_of(fixed, keys, measure, study.processes)
    return Trial(arm, seed, fixed, key, measured=measure, processes=study.processes)
