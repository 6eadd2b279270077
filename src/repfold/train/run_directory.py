"""What a training writes into its run directory, and how it finds its way back; only the leading process writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repfold import atomic, models, run_files
from repfold.counted import counted
from repfold.errors import RepFoldError
from repfold.train import checkpoint, last_checkpoints, recipe_file, record, surroundings
from repfold.train.assemble import Assembly
from repfold.train.checkpoint import State
from repfold.train.evaluation import Metrics
from repfold.train.last_checkpoints import Found
from repfold.train.recipe import Recipe
from repfold.train.run_lock import RunLock


def find_checkpoint(directory: Path, recipe: Recipe, resume: bool, override: bool) -> Found | None:
    """Return the checkpoint to go on from, or None to begin at the beginning.

    Raises: RepFoldError rather than run over another run, and when the checkpoint is of a recipe that differs (unless
    ``override``).
    """
    if not resume:
        if found := record.found(directory):
            raise RepFoldError(
                f"{directory} already holds a run ({found[0]}), which is never overwritten. Go on with it (--resume) "
                "or choose another directory (--out)."
            )
        return None
    found_checkpoint = last_checkpoints.find(directory)
    if found_checkpoint is None:
        _refuse_to_begin_anew(directory)
        return None
    path, saved = found_checkpoint.path, found_checkpoint.content
    before = recipe_file.from_toml(saved["recipe"], name=f"the recipe in {path}")
    if not override and (changes := recipe_file.explain_difference(before, recipe)):
        raise RepFoldError(
            f"The recipe differs from the one that {path} was trained with:\n{changes}\n"
            "Resume with the same recipe, or accept the change with --override."
        )
    return found_checkpoint


def _refuse_to_begin_anew(directory: Path) -> None:
    """Raise RepFoldError when a run without a checkpoint has more than a run killed before its first one can have."""
    epochs = (directory / run_files.RECORD).read_bytes().count(b"\n") if (directory / run_files.RECORD).exists() else 0
    derived = [name for name in run_files.DERIVED if (directory / name).exists()]
    if epochs > 1 or derived:
        raise RepFoldError(
            f"{directory} has no {run_files.CHECKPOINT} to go on from, but what a run of {counted(epochs, 'epoch')} "
            f"left ({', '.join(derived) or run_files.RECORD}), which beginning anew would overwrite. Copy the "
            "checkpoint back, or choose another directory (--out)."
        )


@dataclass(frozen=True)
class RunDirectory:
    """The files of ``run`` in ``path``; the leading process holds its lock."""

    path: Path
    run: Assembly
    lock: RunLock | None

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is."""
        return self.path / run_files.CHECKPOINT

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what goes wrong with files into what the user should know.

        Raises: RunLostError when the directory was taken away, RepFoldError when it cannot be written.
        """
        assert self.lock is not None, "only the leading process writes"
        self.lock.check()
        try:
            with record.writing(self.path):
                yield
        except RepFoldError:
            self.lock.check()
            raise

    def begin(self, state: State, found: Found | None) -> str:
        """Write what is known before the first step; drop what epochs left that the checkpoint does not know.

        Returns: what the user should know of it, or "".
        """
        if not self.run.ranks.leads:
            return ""
        with self._writing():
            if found is not None and found.damaged:
                last_checkpoints.set_aside_damaged(self.path)
            recipe_file.write(self.run.settings.recipe, self.path / run_files.RECIPE)
            record.write_environment(self.path, self._facts(state))
            record.write_records(self.path, state.records)
            if self.run.reparameterized is not None:
                models.save_scales(self.run.reparameterized.scales, self.path / run_files.SCALES)
                record.write_rules(self.path, self.run.reparameterized.rules)
            return self._restore_best(state)

    def _restore_best(self, state: State) -> str:
        """Bring back the checkpoint's best network and confusions, when a later epoch has replaced them."""
        best, previous = self.path / run_files.BEST, self.path / run_files.PREVIOUS_BEST
        if state.best_confusion is not None:
            record.write_confusion(self.path, self.run.source.classes, state.best_confusion)
        if not state.best_sha256 or checkpoint.is_file_of(best, state.best_sha256):
            return ""
        if checkpoint.is_file_of(previous, state.best_sha256):
            previous.replace(best)
            return ""
        return (
            f"{best} is not the network of epoch {state.best_epoch}, the best that the checkpoint knows, but changed "
            "or lost; it stays as it is until an epoch is better."
        )

    def write_epoch(self, state: State, on_val: Metrics, best: bool) -> None:
        """Write the record of the epochs done and, if the last is the best, its network and confusions."""
        if not self.run.ranks.leads:
            return
        with self._writing():
            if best:
                self._write_best(state, on_val)
                record.write_confusion(self.path, self.run.source.classes, on_val.confusion_TP)
            record.write_records(self.path, state.records)

    def _write_best(self, state: State, on_val: Metrics) -> None:
        best = self.path / run_files.BEST
        if best.exists():
            atomic.keep(best, self.path / run_files.PREVIOUS_BEST)
        models.save(self.run.parts.network, best, description=self.run.description)
        state.best_sha256, state.best_confusion = checkpoint.sha256(best), on_val.confusion_TP.to(torch.int32)

    def write_checkpoint(self, state: State) -> None:
        """Write the checkpoint. Raises: NotFiniteError, keeping the last one, when a weight is not finite."""
        if not self.run.ranks.leads:
            return
        parts = self.run.parts
        toml = recipe_file.to_toml(self.run.settings.recipe)
        around = surroundings.of(self.run).to_dict()
        previous = self.path / run_files.PREVIOUS_CHECKPOINT
        with self._writing():
            checkpoint.save(
                self.checkpoint,
                state,
                toml,
                parts.network,
                parts.optimizer,
                parts.scaler,
                parts.average,
                surroundings=around,
                previous=previous,
            )

    def what_is_kept(self) -> str:
        """Return a sentence for errors: which checkpoint there is to go back to."""
        if self.checkpoint.exists():
            return f"The last good checkpoint is kept: {self.checkpoint}."
        return "No checkpoint had been written yet."

    def _facts(self, state: State) -> dict[str, Any]:
        run, source = self.run, self.run.source
        return {
            "machine": run.machine.to_dict(),
            "processes": run.ranks.world,
            "seed": run.settings.seed,
            "resumed_at": {"epoch": state.epoch, "step": state.step},
            "parameters": run.parameters,
            "parameter_groups": list(run.groups.summary),
            "init": run.initialised.to_dict() if run.initialised else None,
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
                "fingerprint": source.fingerprint.content if source.fingerprint else None,
            },
        }
