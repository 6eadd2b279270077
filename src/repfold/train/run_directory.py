"""What a training writes into its run directory, and how it finds its way back; only the leading process writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repfold import models
from repfold.errors import RepFoldError
from repfold.train import checkpoint, recipe_file, record
from repfold.train.assemble import Assembly
from repfold.train.checkpoint import State
from repfold.train.evaluation import Metrics
from repfold.train.recipe import Recipe


def find_checkpoint(directory: Path, recipe: Recipe, resume: bool, override: bool) -> dict[str, Any] | None:
    """Return the contents of the checkpoint to go on from, or None to begin at the beginning.

    Raises: RepFoldError rather than run over another run, and when the checkpoint is of a recipe that differs (unless
    ``override``).
    """
    path = directory / record.CHECKPOINT
    if not resume:
        if found := [name for name in (record.CHECKPOINT, record.RECORD) if (directory / name).exists()]:
            raise RepFoldError(
                f"{directory} already holds a run ({found[0]}). Go on with it (--resume) or choose another directory."
            )
        return None
    if not path.exists():
        return None
    saved = checkpoint.read(path)
    before = recipe_file.from_toml(saved["recipe"], name=f"the recipe in {path}")
    if not override and (changes := recipe_file.explain_difference(before, recipe)):
        raise RepFoldError(
            f"The recipe differs from the one that {path} was trained with:\n{changes}\n"
            "Resume with the same recipe, or accept the change with --override."
        )
    return saved


@dataclass(frozen=True)
class RunDirectory:
    """The files of a run of ``parts`` in ``path``."""

    path: Path
    parts: Assembly

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is."""
        return self.path / record.CHECKPOINT

    def begin(self, state: State) -> None:
        """Write what is known before the first step; drop records of epochs that the checkpoint does not know."""
        if not self.parts.ranks.leads:
            return
        with record.writing(self.path):
            recipe_file.write(self.parts.recipe, self.path / record.RECIPE)
            record.write_environment(self.path, self._facts(state))
            record.write_records(self.path, state.records)
            if self.parts.reparameterized is not None:
                models.save_scales(self.parts.reparameterized.scales, self.path / record.SCALES)
                record.write_rules(self.path, self.parts.reparameterized.rules)

    def write_epoch(self, state: State, on_val: Metrics, best: bool) -> None:
        """Write the record of the epochs done and, if the last is the best, its network and confusions."""
        if not self.parts.ranks.leads:
            return
        with record.writing(self.path):
            if best:
                models.save(self.parts.network, self.path / record.BEST, description=self.parts.description)
                record.write_confusion(self.path, self.parts.source.classes, on_val.confusion_TP)
            record.write_records(self.path, state.records)

    def write_checkpoint(self, state: State) -> None:
        """Write the checkpoint. Raises: NotFiniteError, keeping the last one, when a weight is not finite."""
        if not self.parts.ranks.leads:
            return
        parts = self.parts
        toml = recipe_file.to_toml(parts.recipe)
        with record.writing(self.path):
            checkpoint.save(self.checkpoint, state, toml, parts.network, parts.optimizer, parts.scaler, parts.average)

    def restore(self, saved: dict[str, Any]) -> State:
        """Put what ``find_checkpoint`` found into the parts; return where the run was.

        Raises: RepFoldError when it is of another network or optimizer.
        """
        parts = self.parts
        return checkpoint.restore(self.checkpoint, saved, parts.network, parts.optimizer, parts.scaler, parts.average)

    def what_is_kept(self) -> str:
        """Return a sentence for errors: which checkpoint there is to go back to."""
        if self.checkpoint.exists():
            return f"The last good checkpoint is kept: {self.checkpoint}."
        return "No checkpoint had been written yet."

    def _facts(self, state: State) -> dict[str, Any]:
        parts, source = self.parts, self.parts.source
        return {
            "machine": parts.machine.to_dict(),
            "processes": parts.ranks.world,
            "seed": parts.recipe.seed,
            "resumed_at": {"epoch": state.epoch, "step": state.step},
            "parameters": parts.parameters,
            "parameter_groups": list(parts.groups),
            "data": {
                "name": source.name,
                "classes": len(source.classes),
                "training_images": len(source.train),
                "validation_images": len(source.val),
                "image_size": source.image_size,
                "resize": source.resize,
                "channels": source.channels,
                "crop": source.crop.kind,
                "skipped": list(source.skipped),
            },
        }
