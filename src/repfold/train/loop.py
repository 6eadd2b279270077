"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from repfold.counted import counted
from repfold.signals import Request
from repfold.train import restart_command, stopping
from repfold.train.checkpoint import State
from repfold.train.checkpointing import Checkpoints, diverged
from repfold.train.epoch_end import end_epoch
from repfold.train.events import Listener, Note, Stepped
from repfold.train.position import Position
from repfold.train.run_directory import RunDirectory
from repfold.train.step import step

# Looking at a loss makes a GPU, or other processes, wait: there it is done once in so many steps.
LOOK_EVERY = 10


class Loop:
    """A training under way.

    Args:
        files: the run's directory, and with it what the run is made of.
        emit: gets the events.
        stop: whether the process was asked to stop.
        until: where to end, with a checkpoint, if before the last epoch's end.
    """

    def __init__(self, files: RunDirectory, emit: Listener, stop: Request, until: Position | None = None) -> None:
        self.files, self.emit, self.stop, self.until = files, emit, stop, until
        self.run, self.checkpoints = files.run, Checkpoints(files)

    def to_the_end(self, state: State) -> None:
        """Train from ``state`` to the end of the last epoch, or of the one after which patience is over."""
        while not self._over(state) and not self._arrived(state):
            self._train_epoch(state)
            if not self._arrived(state):
                self._end_epoch(state)
        if self._over(state) and state.epoch < self.run.settings.epochs:
            patience = self.run.settings.patience
            late = counted(patience, "epoch")
            self.emit(Note(f"Ended early: {late} in a row no better than epoch {state.best_epoch}"))

    def _train_epoch(self, state: State) -> None:
        run, settings = self.run, self.run.settings
        loader, steps = run.loaders.train, run.steps_per_epoch
        look_every = 1 if run.machine.device.type == "cpu" and run.ranks.world == 1 else LOOK_EVERY
        outcomes: list[Tensor] = []  # of the steps since the last look
        began, loader.waited = time.perf_counter() - state.train_seconds, state.waited_seconds
        for batch in loader.epoch(state.epoch, state.step):
            index = state.position.index(steps)
            lr, progress = settings.lr(index, steps), index / (settings.epochs * steps)
            outcomes.append(step(run.parts, batch, state.position, lr, progress=progress))
            state.step += 1
            due = self.checkpoints.due(state.step) or self._arrived(state)
            if not due and len(outcomes) < look_every and state.step < steps:
                continue
            due = due or self.checkpoints.overdue()
            agreed = run.ranks.agree(outcomes, checkpoint=due, signal=self.stop.signal)
            self._add(agreed.outcomes, state)
            outcomes.clear()
            state.train_seconds, state.waited_seconds = time.perf_counter() - began, loader.waited
            rate = state.step * settings.batch / state.train_seconds
            self.emit(Stepped(state.epoch, state.step, steps, state.loss_sum / state.step, lr, rate))
            if agreed.checkpoint or agreed.signal:
                self.checkpoints.write(state)
            if agreed.signal:
                raise stopping.Stopped(agreed.signal, self._how_to_go_on(state))
            if self._arrived(state):
                return

    def _add(self, outcomes: Sequence[tuple[float, float]], state: State) -> None:
        """Add the losses and hits of the last steps to the epoch's.

        Raises: RepFoldError at the first loss that is not finite.
        """
        for done, (loss, hits) in enumerate(outcomes, start=state.step - len(outcomes) + 1):
            if not math.isfinite(loss):
                raise diverged(f"The loss is {loss}", self.files, state.epoch, done)
            state.loss_sum += loss
            state.hit_sum += hits

    def _end_epoch(self, state: State) -> None:
        done = end_epoch(self.files, state)
        self.checkpoints.write(state)
        self.emit(replace(done, last=self._over(state)))

    def _over(self, state: State) -> bool:
        settings = self.run.settings
        patient = not settings.patience or state.epoch - state.best_epoch < settings.patience
        return state.epoch >= settings.epochs or not patient

    def _arrived(self, state: State) -> bool:
        return state.position == self.until

    def _how_to_go_on(self, state: State) -> str:
        command = restart_command.to_resume(self.files.path, self.run.settings.recipe)
        return (
            f"Stopped after step {state.step} of {self.run.steps_per_epoch} of epoch {state.epoch + 1}. The checkpoint "
            f"is written. Go on with: {command}"
        )
