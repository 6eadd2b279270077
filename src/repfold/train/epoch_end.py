"""What happens at the end of an epoch: the weights to keep are evaluated, recorded, and kept if they are the best."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

from repfold.data import Loader
from repfold.optim.averages import reestimate_statistics
from repfold.optim.lookahead import Lookahead
from repfold.train.assemble import Assembly
from repfold.train.checkpoint import State
from repfold.train.checkpointing import diverged
from repfold.train.evaluation import Metrics, evaluate
from repfold.train.events import EpochDone, Record
from repfold.train.run_directory import RunDirectory


def end_epoch(files: RunDirectory, state: State) -> EpochDone:
    """Evaluate and record the epoch whose steps are done; keep the network if it is the best so far.

    ``state`` is then at the beginning of the next epoch.

    Raises: RepFoldError when the validation loss is not finite.
    """
    began = time.perf_counter()
    run = files.run
    _settle(run, state)
    with _weights_to_keep(run, state):
        on_train, on_val = (
            _evaluate(run, images, state.epoch) for images in (run.loaders.train_sample, run.loaders.val)
        )
        if not math.isfinite(on_val.loss):
            raise diverged(f"The validation loss is {on_val.loss}", files, state.epoch, state.step)
        record = _record(run, state, on_train, on_val)
        record["seconds"] = state.train_seconds + time.perf_counter() - began
        best = on_val.top1 > state.best_top1
        if best:
            state.best_epoch, state.best_top1 = state.epoch + 1, on_val.top1
        state.end_epoch(record)
        files.write_epoch(state, on_val, best)
    return EpochDone(record, best)


def _settle(run: Assembly, state: State) -> None:
    """Do what is due after the last step of an epoch, before the weights are looked at."""
    parts = run.parts
    if isinstance(parts.optimizer, Lookahead):
        parts.optimizer.synchronise()
    if parts.average is not None:
        parts.average.after_epoch(parts.network, (state.epoch + 1) / run.settings.epochs)
    run.ranks.share_buffers(parts.network)


@contextmanager
def _weights_to_keep(run: Assembly, state: State) -> Iterator[None]:
    """Within the block the network is what is evaluated and kept: the trained one or, once there is, the average.

    BatchNorm's statistics are then those of as many training images as ``train_sample``, as training sees them.
    """
    parts, settings = run.parts, run.settings
    if parts.average is None or not parts.average.updates:
        yield
        return
    count = min(run.steps_per_epoch, -(-settings.train_sample // settings.batch))
    progress = (state.epoch + 1) / settings.epochs
    with parts.average.applied(parts.network):
        batches: Any = run.loaders.train.epoch(state.epoch)
        with closing(batches), run.machine.autocast():
            inputs = (
                parts.transform(batch, state.epoch, step, progress)[0]
                for step, batch in zip(range(count), batches, strict=False)
            )
            reestimate_statistics(parts.network, inputs)
        run.ranks.share_buffers(parts.network)
        yield


def _evaluate(run: Assembly, loader: Loader, epoch: int) -> Metrics:
    return evaluate(
        run.parts.network,
        loader,
        run.parts.transform.preprocessing,
        run.machine.device,
        context=nullcontext if run.settings.evaluates_in_fp32(epoch) else run.machine.autocast,
        ranks=run.ranks,
        channels_last=run.machine.channels_last,
    )


def _record(run: Assembly, state: State, on_train: Metrics, on_val: Metrics) -> Record:
    steps = run.steps_per_epoch
    begin = state.epoch * steps
    return {
        "epoch": state.epoch + 1,
        "step": begin + steps,
        "lr_first": run.settings.lr(begin, steps),
        "lr": run.settings.lr(begin + steps - 1, steps),
        "train_loss": state.loss_sum / steps,
        "train_top1": on_train.top1,
        "train_seen_top1": 100 * state.hit_sum / steps,
        "val_loss": on_val.loss,
        "val_top1": on_val.top1,
        "val_top5": on_val.top5,
        "val_precision": on_val.precision,
        "val_recall": on_val.recall,
        "images_per_second": steps * run.settings.batch / state.train_seconds,
        "waiting_share": min(1.0, state.waited_seconds / state.train_seconds),
    }
