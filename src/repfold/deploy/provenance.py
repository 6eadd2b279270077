"""Where a model is from: what its run directory knows, for the folder that is shipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.report.records import Run, read_runs


@dataclass(frozen=True)
class Provenance:
    """All that a shipped folder says of its model besides what was measured.

    Attributes:
        source: the run or file that it was made of.
        data: the images that its accuracy was measured on.
        licence: the model's own, in its owner's words.
        training, environment: of its run, as far as they are known.
    """

    source: str
    data: str
    licence: str | None = None
    certificate: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def started_from(self) -> dict[str, str]:
        """The weights that training started from: source, licence and commit, as far as they are known; or nothing."""
        init = self.environment.get("init")
        known = init if isinstance(init, Mapping) else {}
        return {key: str(known[key]) for key in ("source", "licence", "commit") if known.get(key)}


_TRAINING = ("data", "model", "init", "epochs", "batch", "optimizer", "lr", "schedule", "warmup", "augment", "seed")
_ENVIRONMENT = ("repfold", "commit", "python", "torch", "system", "cpu", "data", "init")


def provenance_of(
    source: Path, data: str, *, licence: str | None = None, certificate: Mapping[str, Any] | None = None
) -> Provenance:
    """Return what is known of a model file or run directory.

    Args:
        licence: the model's own, in its owner's words; that of the weights it started from is the run's to know.
        certificate: of the fold just made; without it that of the run.
    """
    run = _run(source)
    if run is None:
        return Provenance(source.name, data, licence, certificate)
    best = {key: run.best.get(key) for key in ("epoch", "val_top1", "val_loss") if key in run.best}
    recipe = {key: run.recipe[key] for key in _TRAINING if run.recipe.get(key) not in (None, "", "none")}
    environment = {key: run.environment[key] for key in _ENVIRONMENT if key in run.environment}
    return Provenance(
        source.name, data, licence, certificate or run.certificate, recipe | {"best_epoch": best}, environment
    )


def _run(source: Path) -> Run | None:
    """The run that a path means, or that a model file lies in, if it can be read."""
    directory = source.parent if source.name in run_files.NAMES else source
    if not (directory / run_files.RECORD).is_file():
        return None
    try:
        return read_runs([directory])[0]
    except RepFoldError:
        return None
