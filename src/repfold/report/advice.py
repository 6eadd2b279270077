"""Advice from a run's record alone: what its curves show, with the figures for it, and which settings to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from repfold.report import wording
from repfold.report.numbers import finite, number
from repfold.report.records import Run
from repfold.schedule import fine_tuning_lr

# Percentage points between the accuracy on (unaugmented) training images and on validation images that are far apart.
FAR_APART = 10.0
WAITING = 0.1  # share of the time spent waiting for images that is worth doing something about
LARGE_BATCH = 1024  # batches from which warm-up is known to matter (Goyal et al. 2017)
FEWEST = 3  # epochs of which a tendency can be read


@dataclass(frozen=True)
class Change:
    """Set ``setting`` of the recipe from ``now`` to ``then``."""

    setting: str
    now: str
    then: str


@dataclass(frozen=True)
class Finding:
    """``topic`` is for machines, ``says`` the conclusion, ``evidence`` the figures it rests on, ``changes`` to try."""

    topic: str
    says: str
    evidence: tuple[str, ...]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Signs:
    """What the findings look at. Accuracies are in percent; ``noise`` is twice the standard error of validation's."""

    run: Run

    def text(self, key: str, default: str) -> str:
        """Return a setting that is text."""
        return str(self.run.recipe.get(key, default))

    def value(self, key: str, default: float) -> float:
        """Return a setting that is a number."""
        found = number(self.run.recipe.get(key))
        return found if finite(found) else default

    def fact(self, key: str) -> float | None:
        """Return a number that the environment records about the data."""
        data = self.run.environment.get("data")
        found = number(data.get(key)) if isinstance(data, dict) else None
        return found if finite(found) else None

    def known(self, key: str) -> list[tuple[int, float]]:
        """Return (epoch, value) where the value is finite."""
        pairs = zip(self.run.epochs, self.run.column(key), strict=True)
        return [(int(record["epoch"]), value) for record, value in pairs if finite(value)]

    def late(self, key: str) -> float | None:
        """Return the mean over the last tenth of the epochs."""
        values = [value for _, value in self.known(key)]
        last = values[-max(1, len(values) // 10) :]
        return sum(last) / len(last) if last else None

    @cached_property
    def noise(self) -> float:
        """Two standard errors of the validation accuracy, percentage points; 0 when the number of images is unknown."""
        images, top1 = self.fact("validation_images"), self.late("val_top1")
        if not images or top1 is None:
            return 0.0
        share = min(max(top1 / 100, 0.01), 0.99)
        return 200 * math.sqrt(share * (1 - share) / images)

    @cached_property
    def warmed_up(self) -> bool:
        """Whether the recipe has a warm-up."""
        return str(self.run.recipe.get("warmup", "0")).strip() not in ("", "0", "0ep", "0it", "0%")

    @cached_property
    def peak_lr(self) -> float | None:
        """The highest learning rate recorded."""
        rates = [value for key in ("lr_first", "lr") for _, value in self.known(key)]
        return max(rates, default=None)


def advise(run: Run) -> tuple[Finding, ...]:
    """Return what the record of ``run`` says, the most urgent first; at least one finding."""
    signs = Signs(run)
    found = [finding for check in CHECKS for finding in check(signs)]
    if len(run.epochs) < FEWEST and not found:
        return (Finding("too-early", "It is too early to tell.", (f"{len(run.epochs)} epochs are recorded.",)),)
    return tuple(found) or (_healthy(signs),)


def _not_finite(signs: Signs) -> Iterator[Finding]:
    bad = [
        (int(record["epoch"]), key)
        for record in signs.run.epochs
        for key in ("train_loss", "val_loss")
        if (value := number(record.get(key))) is not None and not finite(value)
    ]
    if bad:
        evidence = (f"{bad[0][1]} is not finite in epoch {bad[0][0]}.",)
        yield Finding("diverged", "The training diverged: the learning rate is too high.", evidence, _calmer(signs))


def _spikes(signs: Signs) -> Iterator[Finding]:
    losses = signs.known("train_loss")
    spikes = [
        (epoch, before, loss)
        for index, (epoch, loss) in enumerate(losses[1:], start=1)
        if loss > 1.5 * (before := min(value for _, value in losses[:index])) and loss - before > 0.2
    ]
    restarts = "restart" in signs.text("schedule", "") or "sgdr" in signs.text("schedule", "")
    if not spikes or restarts:
        return
    worst = max(spikes, key=lambda spike: spike[2] - spike[1])
    evidence = (
        f"The training loss rose {len(spikes)} times by half and more above its lowest so far, most in epoch "
        f"{worst[0]}: {worst[1]:.3f} -> {worst[2]:.3f}.",
    )
    yield Finding("spikes", "The training is unstable: the learning rate is too high.", evidence, _calmer(signs))


def _no_warmup(signs: Signs) -> Iterator[Finding]:
    batch, classes, losses = signs.value("batch", 0), signs.fact("classes"), signs.known("train_loss")
    if signs.warmed_up or signs.text("init", ""):
        return
    evidence = []
    if batch >= LARGE_BATCH:
        evidence.append(f"The batch is {batch:.0f}; from about {LARGE_BATCH} on warm-up is known to matter.")
    if classes and losses and losses[0][1] > 1.05 * math.log(classes):
        guess = math.log(classes)
        evidence.append(f"The mean loss of epoch {losses[0][0]}, {losses[0][1]:.2f}, is above guessing's, {guess:.2f}.")
    if evidence:
        says = "The training begins too fast: a warm-up is missing."
        yield Finding("warm-up", says, tuple(evidence), (Change("warmup", "0ep", "5ep"),))


def _overfits(signs: Signs) -> Iterator[Finding]:
    train, val = signs.late("train_top1"), signs.late("val_top1")
    if train is None or val is None or len(signs.run.epochs) < FEWEST or train - val <= max(FAR_APART, signs.noise):
        return
    evidence = [f"At the end {train:.2f} % of the training images are right, {val:.2f} % of the validation images."]
    losses = signs.known("val_loss")
    lowest, last = min(losses, key=lambda pair: pair[1], default=None), losses[-1] if losses else None
    if lowest and last and last[1] > 1.1 * lowest[1]:
        evidence.append(
            f"The validation loss was lowest in epoch {lowest[0]} ({lowest[1]:.3f}) and is {last[1]:.3f} at the end."
        )
    says = "It overfits: more regularisation (or more images, or a smaller network)."
    yield Finding("overfits", says, tuple(evidence), tuple(_more_regularisation(signs)))


def _underfits(signs: Signs) -> Iterator[Finding]:
    train, val = signs.late("train_top1"), signs.late("val_top1")
    if train is None or val is None or len(signs.run.epochs) < FEWEST or val - train <= max(1.0, signs.noise):
        return
    evidence = (f"At the end {train:.2f} % of the training images are right, {val:.2f} % of the validation images.",)
    says = "It underfits: less regularisation (or a larger network, or more epochs)."
    yield Finding("underfits", says, evidence, tuple(_less_regularisation(signs)))


def _too_short(signs: Signs) -> Iterator[Finding]:
    scores, train, peak = signs.known("val_top1"), signs.late("train_top1"), signs.peak_lr
    if signs.run.unfinished or len(scores) < 5:
        return
    fifth = max(2, len(scores) // 5)
    before, after = scores[-fifth - 1][1], scores[-1][1]
    rises = after - before > max(2.0, signs.noise) and train is not None and train - after <= FAR_APART and train < 97
    rates = signs.known("lr")
    stays = bool(rates) and peak is not None and rates[-1][1] > 0.1 * peak
    evidence = []
    if rises:
        evidence.append(
            f"Validation top-1 rose from {before:.2f} to {after:.2f} % in the last {fifth} epochs, and only "
            f"{train:.2f} % of the training images are right."
        )
    if stays:
        evidence.append(f"The learning rate ends at {rates[-1][1]:.3g}, above a tenth of its peak, {peak:.3g}.")
    if not evidence:
        return
    epochs = int(signs.value("epochs", len(scores)))
    changes = [Change("epochs", str(epochs), str(2 * epochs))] if rises else []
    if stays:
        changes.append(Change("schedule", signs.text("schedule", "?"), "cosine"))
    says = "The schedule was too short." if rises else "The learning rate never came down."
    yield Finding("schedule", says, tuple(evidence), tuple(changes))


def _loader(signs: Signs) -> Iterator[Finding]:
    shares = sorted(value for _, value in signs.known("waiting_share")[1:] or signs.known("waiting_share"))
    if not shares or (middle := shares[len(shares) // 2]) <= WAITING:
        return
    evidence = (f"Training waited for images {wording.share(middle)} of the time (median of {len(shares)} epochs).",)
    says = (
        "Reading images is the bottleneck: store them at about the size that the network sees, on a faster disk, or "
        "give the run more processor cores."
    )
    yield Finding("loader", says, evidence)


def _fine_tuning(signs: Signs) -> Iterator[Finding]:
    images, peak = signs.fact("training_images"), signs.peak_lr
    sgd = signs.text("optimizer", "sgd").startswith("sgd")
    if not signs.text("init", "") or not images or peak is None or not sgd:
        return
    batch = signs.value("batch", 256)
    suited = fine_tuning_lr(images, batch)
    if suited / 3 <= peak <= suited * 3:
        return
    side = "high: it undoes what was learnt before" if peak > suited else "low for so many images"
    evidence = (
        f"The run starts from trained weights, has {images:,.0f} training images and batches of {batch:.0f}; its "
        f"learning rate goes up to {peak:.3g}, where about {suited:.2g} is usual.",
    )
    changes = (Change("lr", f"{peak:.3g}", f"{suited:.2g}"),)
    yield Finding("fine-tuning", f"For fine-tuning the learning rate is {side}.", evidence, changes)


def _healthy(signs: Signs) -> Finding:
    train, val = signs.late("train_top1"), signs.late("val_top1")
    shares = [
        f"{name} {value:.2f} %" for name, value in (("training", train), ("validation", val)) if value is not None
    ]
    return Finding("healthy", "Nothing in the curves asks for a change.", (f"Top-1 at the end: {', '.join(shares)}.",))


def _calmer(signs: Signs) -> tuple[Change, ...]:
    lr = signs.value("lr", 0.1)
    warmup = () if signs.warmed_up else (Change("warmup", "0ep", "5ep"),)
    return (Change("lr", f"{lr:g}", f"{lr / 3:.2g}"), *warmup)


def _more_regularisation(signs: Signs) -> Iterator[Change]:
    decay = signs.value("weight_decay", 1e-4)
    if decay < 1e-3:
        yield Change("weight_decay", f"{decay:g}", f"{max(3 * decay, 1e-4):g}")
    if signs.text("augment", "none") in ("none", ""):
        yield Change("augment", "none", "randaugment:layers=2,magnitude=9")
    if not signs.value("mixup", 0) and not signs.value("cutmix", 0):
        yield Change("cutmix", "0", "1.0")
    if not signs.value("label_smoothing", 0):
        yield Change("label_smoothing", "0", "0.1")


def _less_regularisation(signs: Signs) -> Iterator[Change]:
    decay = signs.value("weight_decay", 1e-4)
    if decay > 1e-5:
        yield Change("weight_decay", f"{decay:g}", f"{decay / 3:.2g}")
    if (augment := signs.text("augment", "none")) not in ("none", ""):
        yield Change("augment", augment, "none")
    for key in ("mixup", "cutmix", "label_smoothing"):
        if value := signs.value(key, 0):
            yield Change(key, f"{value:g}", "0")
    data = signs.run.environment.get("data")
    scale = signs.run.recipe.get("crop_scale")
    resized = isinstance(data, dict) and data.get("crop") == "resized"
    if resized and isinstance(scale, list | tuple) and finite(low := number(scale[0])) and low < 0.2:
        yield Change("crop_scale", wording.plain(scale), "0.2, 1")


CHECKS: tuple[Callable[[Signs], Iterator[Finding]], ...] = (
    *(_not_finite, _spikes, _no_warmup, _fine_tuning, _overfits, _underfits, _too_short, _loader),
)
