"""Advice from a run's record alone: what its curves show, with the figures for it, and which settings to change."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

from repfold.counted import counted
from repfold.report import remedies, wording
from repfold.report.confusion import class_scores
from repfold.report.numbers import finite, number
from repfold.report.records import Run
from repfold.report.signs import FEWEST, Change, Finding, Signs

# Percentage points between the accuracy on (unaugmented) training images and on validation images that are far apart.
FAR_APART = 10.0
WAITING = 0.1  # share of the time spent waiting for images that is worth doing something about
LARGE_BATCH = 1024  # batches from which warm-up is known to matter (Goyal et al. 2017)
FEW_IMAGES = 10_000  # for training from scratch
FITTED = 97.0  # percent of clean training images right: more training, or less regularisation, has nothing left to do
SLOW = 0.7  # of guessing's loss that a training at a low rate has left at its end
UNEVEN = 2.0  # times as many images in the largest class as in a small one


def advise(run: Run) -> tuple[Finding, ...]:
    """Return what the record of ``run`` says, the most urgent first; at least one finding."""
    signs = Signs(run)
    found: list[Finding] = []
    for check in CHECKS:
        # As long as the rate does not suit, the curves say nothing else.
        if check in OF_WHAT_WAS_LEARNT and any(finding.topic in RATE_FIRST for finding in found):
            continue
        found += check(signs)
    if len(run.epochs) < FEWEST and not found:
        so_far = f"{counted(len(run.epochs), 'epoch')} recorded so far."
        return (Finding("too-early", "It is too early to tell.", (so_far,)),)
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
        yield Finding(
            "diverged", "The training diverged: the learning rate is too high.", evidence, remedies.calmer(signs)
        )


def _spikes(signs: Signs) -> Iterator[Finding]:
    restarts = "restart" in signs.text("schedule", "") or "sgdr" in signs.text("schedule", "")
    evidence = (*_rises(signs), *_learns_late(signs))
    if evidence and not restarts:
        says = "The training is unstable: the learning rate is too high."
        yield Finding("spikes", says, evidence, remedies.calmer(signs))


def _rises(signs: Signs) -> Iterator[str]:
    """Yield how the training loss rose by half, or by a fifth for three epochs running."""
    losses = signs.known("train_loss")
    lowest = [min(value for _, value in losses[: index + 1]) for index in range(len(losses))]
    rises = [
        (epoch, before, loss)
        for (epoch, loss), before in zip(losses[1:], lowest, strict=False)
        if loss > 1.2 * before and loss - before > 0.2
    ]
    spikes = [rise for rise in rises if rise[2] > 1.5 * rise[1]]
    lasting = [first for first, third in zip(rises, rises[2:], strict=False) if third[0] - first[0] == 2]
    if not spikes and not lasting:
        return
    worst = max(spikes or rises, key=lambda rise: rise[2] - rise[1])
    often = f"{counted(len(spikes), 'time')} by half and more" if spikes else "for three epochs and more by a fifth"
    yield (
        f"The training loss rose {often} above its lowest so far, most in epoch {worst[0]}: {worst[1]:.3f} -> "
        f"{worst[2]:.3f}."
    )


def _learns_late(signs: Signs) -> Iterator[str]:
    """Yield that nothing was learnt while the rate was high."""
    peak, classes, rates = signs.peak_lr, signs.fact("classes"), dict(signs.known("lr"))
    if peak is None or peak <= remedies.NEW_CLASSIFIER_LR or not classes or signs.chance is None or signs.guessing:
        return

    def while_fast(key: str) -> float:
        values = [value for epoch, value in signs.known(key) if rates.get(epoch, 0.0) >= peak / 2]
        return statistics.median(values or [math.nan])

    loss, top1 = while_fast("train_loss"), while_fast("val_top1")
    if len(signs.run.epochs) >= FEWEST and loss > math.log(classes) and top1 <= signs.chance + signs.noise:
        yield (
            f"At rates from {peak / 2:.3g} to {peak:.3g} the training loss stayed at {loss:.2f} and validation top-1 "
            f"at {top1:.2f} %; guessing has {math.log(classes):.2f} and {signs.chance:.2f} %. It learnt when the rate "
            "had come down."
        )


def _no_warmup(signs: Signs) -> Iterator[Finding]:
    batch, classes, losses = signs.value("batch", 0), signs.fact("classes"), signs.known("train_loss")
    if signs.warmed_up or signs.text("init", ""):
        return
    evidence = []
    if batch >= LARGE_BATCH:
        evidence.append(f"The batch is {batch:.0f}; from about {LARGE_BATCH} on warm-up is known to matter.")
    fast = (signs.peak_lr or 0.0) >= remedies.NEW_CLASSIFIER_LR
    if fast and classes and losses and losses[0][1] > 1.05 * math.log(classes):
        guess = math.log(classes)
        evidence.append(f"The mean loss of epoch {losses[0][0]}, {losses[0][1]:.2f}, is above guessing's, {guess:.2f}.")
    if evidence:
        says = "The training begins too fast: a warm-up is missing."
        yield Finding("warm-up", says, tuple(evidence), (Change("warmup", "0ep", "5ep"),))


def _chance(signs: Signs) -> Iterator[Finding]:
    top1, peak, losses = signs.late("val_top1"), signs.peak_lr, signs.known("train_loss")
    if not signs.guessing or top1 is None or signs.chance is None or len(signs.run.epochs) < FEWEST:
        return
    evidence = f"Validation top-1 is {top1:.2f} % at the end; guessing would have {signs.chance:.2f} %."
    if peak is None or not losses:
        yield Finding("chance", "It has learnt nothing.", (evidence,))
        return
    first, last = losses[0][1], losses[-1][1]
    guess = math.log(signs.fact("classes") or 2.0)
    too_high = first > 1.2 * guess and last > 0.95 * guess and peak > remedies.NEW_CLASSIFIER_LR
    curve = f"The training loss went from {first:.3f} to {last:.3f} at rates up to {peak:.3g}."
    says = "It has learnt nothing: the learning rate is too " + ("high." if too_high else "low, or the run too short.")
    changes = remedies.calmer(signs) if too_high else remedies.livelier(signs, peak)
    yield Finding("chance", says, (evidence, curve), changes)


def _slow(signs: Signs) -> Iterator[Finding]:
    peak, losses, classes = signs.peak_lr, signs.known("train_loss"), signs.fact("classes")
    sgd = signs.text("optimizer", "sgd").startswith("sgd")
    if signs.guessing or peak is None or len(losses) < FEWEST or not classes or not sgd:
        return
    last = losses[-1][1]
    if peak * signs.value("head_rate", 1.0) >= remedies.NEW_CLASSIFIER_LR or last < SLOW * math.log(classes):
        return
    evidence = (
        f"At rates up to {peak:.3g} the training loss went from {losses[0][1]:.3f} to {last:.3f}; guessing has "
        f"{math.log(classes):.3f}.",
    )
    yield Finding(
        "slow", "It learns too slowly: the learning rate is too low.", evidence, remedies.livelier(signs, peak)
    )


def _few_images(signs: Signs) -> Iterator[Finding]:
    images, val = signs.fact("training_images"), signs.late("val_top1")
    channels, side = signs.fact("channels"), signs.fact("image_size")
    if signs.text("init", "") or not images or images > FEW_IMAGES or val is None or val >= 90:
        return
    if channels != 3 or not side or side < 32 or len(signs.run.epochs) < FEWEST:
        return
    evidence = f"It was trained from scratch on {images:,.0f} images; {val:.2f} % of the validation images are right."
    says = (
        "So few photos are best learnt from trained weights: --init, with the recipe fine-tune (`repfold models` lists "
        "published weights; a run on other photos will do too)."
    )
    yield Finding("pretrained", says, (evidence,), remedies.pretrained(signs))


def _overfits(signs: Signs) -> Iterator[Finding]:
    seen, val = signs.seen, signs.late("val_top1")
    if seen is None or val is None or len(signs.run.epochs) < FEWEST or seen - val <= max(FAR_APART, signs.noise):
        return
    evidence = [_both(seen, val)]
    losses = signs.known("val_loss")
    lowest, last = min(losses, key=lambda pair: pair[1], default=None), losses[-1] if losses else None
    if lowest and last and last[1] > 1.1 * lowest[1]:
        evidence.append(
            f"The validation loss was lowest in epoch {lowest[0]} ({lowest[1]:.3f}) and is {last[1]:.3f} at the end."
        )
    says = "It overfits: more augmentation and regularisation (or more images, or a smaller network)."
    yield Finding("overfits", says, tuple(evidence), tuple(remedies.more_regularisation(signs)))


def _underfits(signs: Signs) -> Iterator[Finding]:
    seen, clean, val = signs.seen, signs.late("train_top1"), signs.late("val_top1")
    if seen is None or val is None or len(signs.run.epochs) < FEWEST or val - seen <= max(1.0, signs.noise):
        return
    if signs.rising or (clean is not None and clean >= FITTED):
        return
    less = tuple(remedies.less_regularisation(signs))
    says = "It underfits: less augmentation and regularisation (or a larger network, or more epochs)."
    if {change.setting for change in less} <= {"weight_decay"}:
        says, less = "It underfits: train longer (or a larger network).", remedies.longer(signs)
    yield Finding("underfits", says, (_both(seen, val),), less)


def _both(seen: float, val: float) -> str:
    return (
        f"At the end {seen:.2f} % of the training images are right as training sees them, {val:.2f} % of the "
        "validation images."
    )


def _uneven(signs: Signs) -> Iterator[Finding]:
    confusion = signs.run.confusion
    balanced = (signs.text("class_weights", "none"), signs.text("sampling", "shuffled")) != ("none", "shuffled")
    if confusion is None or balanced:
        return
    scores = [score for score in class_scores(confusion) if score.recall is not None]
    largest = max((score.images for score in scores), default=0)
    small = [score.recall or 0.0 for score in scores if score.images * UNEVEN <= largest]
    large = [score.recall or 0.0 for score in scores if score.images * UNEVEN > largest]
    if not small or (of_large := sum(large) / len(large)) - (of_small := sum(small) / len(small)) <= FAR_APART:
        return
    evidence = (
        f"Of the {len(small)} classes with at most half the images of the largest, {of_small:.2f} % are right on "
        f"average; of the {len(large)} others {of_large:.2f} %.",
    )
    says = "Small classes are neglected: draw images of each class as often (mean recall is the figure to look at)."
    yield Finding("uneven", says, evidence, (Change("sampling", "shuffled", "balanced"),))


def _too_short(signs: Signs) -> Iterator[Finding]:
    scores, train, peak = signs.known("val_top1"), signs.late("train_top1"), signs.peak_lr
    if signs.run.unfinished or len(scores) < FEWEST + 2:
        return
    rising = signs.rising if train is not None and train < FITTED and train - scores[-1][1] <= FAR_APART else None
    rates = signs.known("lr")
    stays = bool(rates) and peak is not None and rates[-1][1] > 0.1 * peak
    evidence: list[str] = []
    changes: list[Change] = []
    if rising:
        evidence.append(
            f"Validation top-1 rose from {rising[0]:.2f} to {rising[1]:.2f} % in the last fifth of the epochs, and "
            f"only {train:.2f} % of the training images are right."
        )
        changes += remedies.longer(signs)
    if stays:
        evidence.append(f"The learning rate ends at {rates[-1][1]:.3g}, above a tenth of its peak, {peak:.3g}.")
        changes.append(Change("schedule", signs.text("schedule", "?"), "cosine"))
    if evidence:
        says = "The schedule was too short: train longer." if rising else "The learning rate never came down."
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


def _healthy(signs: Signs) -> Finding:
    train, val = signs.late("train_top1"), signs.late("val_top1")
    shares = [
        f"{name} {value:.2f} %" for name, value in (("training", train), ("validation", val)) if value is not None
    ]
    return Finding("healthy", "Nothing in the curves asks for a change.", (f"Top-1 at the end: {', '.join(shares)}.",))


CHECKS: tuple[Callable[[Signs], Iterator[Finding]], ...] = (
    *(_not_finite, _spikes, _no_warmup, _chance, _slow, _few_images, _overfits, _underfits),
    *(_too_short, _uneven, _loader),
)
RATE_FIRST = ("diverged", "spikes", "chance", "slow")
OF_WHAT_WAS_LEARNT = (_few_images, _overfits, _underfits, _too_short, _uneven)
