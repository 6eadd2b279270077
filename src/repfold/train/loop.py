"""The training loop."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repfold.data import Batch, Loader, refuse_inside
from repfold.errors import RepFoldError
from repfold.optim.averages import reestimate_statistics
from repfold.optim.lookahead import Lookahead
from repfold.schedule import ScheduleWarning
from repfold.signals import KNOWN
from repfold.train import checkpoint, distributed, requirements, restart_command, resuming, run_lock, stopping
from repfold.train.assemble import Assembly, assemble
from repfold.train.batches import seed_step
from repfold.train.checkpoint import State
from repfold.train.evaluation import Metrics, evaluate
from repfold.train.events import EpochDone, Listener, Note, Record, Started, Stepped, ignore
from repfold.train.last_checkpoints import Found
from repfold.train.machine import choose, prepare_process
from repfold.train.max_norm import constrain
from repfold.train.objective import seen_top1
from repfold.train.recipe import Recipe
from repfold.train.run_directory import RunDirectory, find_checkpoint

# Looking at a loss makes a GPU, or other processes, wait: there it is done once in so many steps.
LOOK_EVERY = 10


@dataclass(frozen=True)
class RunResult:
    """A finished run: its directory, a record for each epoch, and the best epoch by validation top-1 (percent)."""

    directory: Path
    records: tuple[Record, ...]
    best_epoch: int
    best_top1: float


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
    directory = Path(directory)
    refuse_inside(recipe.data, directory)
    chosen = choose(recipe)
    prepare_process(chosen)
    with distributed.joined(chosen.device) as ranks, ExitStack() as stack:
        say = (on_event or ignore) if ranks.leads else ignore
        with ranks.together():  # so that none takes the files of another, which has just begun, for an older run
            lock = stack.enter_context(run_lock.held(directory)) if ranks.leads else None
            found = find_checkpoint(directory, recipe, resume, override)
        parts = assemble(recipe, chosen, ranks, say, resumed=directory if found else None, trust=trust)
        state = _run(RunDirectory(directory, parts, lock), found, override, say)
    return RunResult(directory, tuple(state.records), state.best_epoch, state.best_top1)


def _run(files: RunDirectory, found: Found | None, override: bool, say: Listener) -> State:
    """Restore the run from the checkpoint that was ``found``, and train it to its end; return where that is."""
    parts, recipe, state = files.parts, files.parts.recipe, State()
    if found is not None:
        state = resuming.restore(found, parts, override, say)
    for short in requirements.check(parts, files.path):
        say(Note(short))
    if told := files.begin(state, found):
        say(Note(told, severe=True))
    say(Started(parts.summary(), state.epoch, recipe.epochs, state.step, parts.steps_per_epoch))
    with stopping.on_signals() as stop, warnings.catch_warnings():
        warnings.simplefilter("ignore", ScheduleWarning)  # told once, by assemble
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        Run(parts, files, say, stop).to_the_end(state)
    return state


@dataclass(frozen=True)
class Run:
    """A training under way: its parts, its files, who listens, and whether it was asked to stop.

    ``until``: the epoch and step at which it ends, with a checkpoint, if before the last epoch's end.
    """

    parts: Assembly
    files: RunDirectory
    say: Listener
    stop: stopping.Request
    until: tuple[int, int] | None = None

    def to_the_end(self, state: State) -> None:
        """Train from ``state`` to the end of the last epoch."""
        while state.epoch < self.parts.recipe.epochs and not self._arrived(state):
            self._train_epoch(state)
            if not self._arrived(state):
                self._end_epoch(state)

    def _arrived(self, state: State) -> bool:
        return (state.epoch, state.step) == self.until

    def _train_epoch(self, state: State) -> None:
        parts, recipe, steps = self.parts, self.parts.recipe, self.parts.steps_per_epoch
        look_every = 1 if parts.machine.device.type == "cpu" and parts.ranks.world == 1 else LOOK_EVERY
        losses: list[Tensor] = []
        written = time.perf_counter()
        began = written - state.train_seconds
        parts.train.waited = state.waited_seconds
        for batch in parts.train.epoch(state.epoch, state.step):
            losses.append(self._step(batch, state))
            state.step += 1
            due = bool(recipe.checkpoint_every) and state.step % recipe.checkpoint_every == 0
            due = due or self._arrived(state)
            if not due and len(losses) < look_every and state.step < steps:
                continue
            due = due or time.perf_counter() - written > recipe.checkpoint_seconds
            due, signal = self._look(losses, state, due)
            losses.clear()
            state.train_seconds, state.waited_seconds = time.perf_counter() - began, parts.train.waited
            rate = state.step * recipe.batch / state.train_seconds
            self.say(Stepped(state.epoch, state.step, steps, state.loss_sum / state.step, self._lr(state, -1), rate))
            if due or signal:
                self._checkpoint(state)
                written = time.perf_counter()
            if signal:
                raise stopping.Stopped(signal, self._how_to_go_on(state))
            if self._arrived(state):
                return

    def _step(self, batch: Batch, state: State) -> Tensor:
        """Make one update of the weights; return the loss and the share classified right, still on the device."""
        parts, recipe = self.parts, self.parts.recipe
        number = state.epoch * parts.steps_per_epoch + state.step
        seed_step(recipe.seed, number, parts.ranks.rank)
        for group in parts.optimizer.param_groups:
            group["lr"] = self._lr(state)
        progress = number / (recipe.epochs * parts.steps_per_epoch)
        x_NCHW, targets = parts.transform(batch, state.epoch, state.step, progress)
        with parts.machine.autocast():
            outputs = parts.forward(x_NCHW)
        loss = parts.objective(outputs, targets, x_NCHW)
        parts.optimizer.zero_grad()
        parts.scaler.scale(loss).backward()
        parts.scaler.step(parts.optimizer)
        parts.scaler.update()
        if recipe.max_norm:
            constrain(parts.network, recipe.max_norm)
        averaging = recipe.averaging()
        if parts.average is not None and averaging and not averaging.each_epoch and progress >= averaging.start:
            parts.average.update(parts.network)
        return torch.stack([loss.detach().float(), seen_top1(outputs, targets)])

    def _look(self, losses: Sequence[Tensor], state: State, due: bool) -> tuple[bool, int]:
        """Add losses and hits of the last steps to the epoch's, and agree with the other processes on what comes next.

        Returns: whether to write a checkpoint, and the signal to stop for, or 0.
        Raises: RepFoldError at the first loss that is not finite.
        """
        ranks = self.parts.ranks
        own = torch.stack(list(losses)).flatten().tolist()
        asked = [self.stop.signal == number for number in KNOWN]
        totals = ranks.total([*own, due and ranks.leads, *asked])
        summed, due_leading, votes = totals[: len(own)], totals[len(own)], totals[len(own) + 1 :]
        for place, (loss, hits) in enumerate(zip(summed[0::2], summed[1::2], strict=True)):
            if not math.isfinite(loss):
                raise self._diverged(f"The loss is {loss}", state, place - len(losses))
            state.loss_sum += loss / ranks.world
            state.hit_sum += hits / ranks.world
        return due_leading > 0, next((int(number) for number, count in zip(KNOWN, votes, strict=True) if count), 0)

    def _end_epoch(self, state: State) -> None:
        """Evaluate, record, keep the network if it is the best so far, write a checkpoint."""
        began = time.perf_counter()
        self._settle(state)
        with self._weights_to_keep(state):
            on_train, on_val = self._evaluate(self.parts.train_sample), self._evaluate(self.parts.val)
            if not math.isfinite(on_val.loss):
                raise self._diverged(f"The validation loss is {on_val.loss}", state, -1)
            entry = self._entry(state, on_train, on_val)
            entry["seconds"] = state.train_seconds + time.perf_counter() - began
            best = on_val.top1 > state.best_top1
            if best:
                state.best_epoch, state.best_top1 = state.epoch + 1, on_val.top1
            state.end_epoch(entry)
            self.files.write_epoch(state, on_val, best)
        self._checkpoint(state)
        self.say(EpochDone(entry, best))

    def _settle(self, state: State) -> None:
        """Do what is due after the last step of an epoch, before the weights are looked at."""
        parts, averaging = self.parts, self.parts.recipe.averaging()
        if isinstance(parts.optimizer, Lookahead):
            parts.optimizer.synchronise()
        late_enough = averaging is not None and (state.epoch + 1) / parts.recipe.epochs > averaging.start
        if parts.average is not None and averaging and averaging.each_epoch and late_enough:
            parts.average.update(parts.network)
        parts.ranks.share_buffers(parts.network)

    @contextmanager
    def _weights_to_keep(self, state: State) -> Iterator[None]:
        """Within the block the network is what is evaluated and kept: the trained one or, once there is, the average.

        BatchNorm's statistics are then those of as many training images as ``train_sample``, as training sees them.
        """
        parts = self.parts
        if parts.average is None or not parts.average.updates:
            yield
            return
        count = min(parts.steps_per_epoch, -(-parts.recipe.train_sample // parts.recipe.batch))
        progress = (state.epoch + 1) / parts.recipe.epochs
        with parts.average.applied(parts.network):
            batches: Any = parts.train.epoch(state.epoch)
            with closing(batches), parts.machine.autocast():
                inputs = (
                    parts.transform(batch, state.epoch, step, progress)[0]
                    for step, batch in zip(range(count), batches, strict=False)
                )
                reestimate_statistics(parts.network, inputs)
            parts.ranks.share_buffers(parts.network)
            yield

    def _evaluate(self, loader: Loader) -> Metrics:
        parts, chosen = self.parts, self.parts.machine
        return evaluate(
            parts.network,
            loader,
            parts.preprocessing,
            chosen.device,
            context=chosen.autocast,
            ranks=parts.ranks,
            channels_last=chosen.channels_last,
        )

    def _entry(self, state: State, on_train: Metrics, on_val: Metrics) -> Record:
        steps = self.parts.steps_per_epoch
        return {
            "epoch": state.epoch + 1,
            "step": (state.epoch + 1) * steps,
            "lr_first": self._lr(state, -steps),
            "lr": self._lr(state, -1),
            "train_loss": state.loss_sum / steps,
            "train_top1": on_train.top1,
            "train_seen_top1": 100 * state.hit_sum / steps,
            "val_loss": on_val.loss,
            "val_top1": on_val.top1,
            "val_top5": on_val.top5,
            "val_precision": on_val.precision,
            "val_recall": on_val.recall,
            "images_per_second": steps * self.parts.recipe.batch / state.train_seconds,
            "waiting_share": min(1.0, state.waited_seconds / state.train_seconds),
        }

    def _lr(self, state: State, offset: int = 0) -> float:
        """The learning rate of the step at hand, or of one ``offset`` steps from it."""
        steps, recipe = self.parts.steps_per_epoch, self.parts.recipe
        return recipe.base_lr * self.parts.course(state.epoch * steps + state.step + offset, steps, recipe.epochs)

    def _checkpoint(self, state: State) -> None:
        try:
            self.files.write_checkpoint(state)
        except checkpoint.NotFiniteError as error:
            raise self._diverged(str(error), state, -1) from error

    def _diverged(self, what: str, state: State, offset: int) -> RepFoldError:
        return RepFoldError(
            f"{what} at step {state.step + offset + 1} of epoch {state.epoch + 1}, at a learning rate of "
            f"{self._lr(state, offset):.4g}. {self.files.what_is_kept()} Use a lower lr, a warm-up (--warmup 5), or "
            "precision fp32."
        )

    def _how_to_go_on(self, state: State) -> str:
        return (
            f"Stopped after step {state.step} of {self.parts.steps_per_epoch} of epoch {state.epoch + 1}. The "
            f"checkpoint is written. Go on with: {restart_command.to_resume(self.files.path, self.parts.recipe)}"
        )
