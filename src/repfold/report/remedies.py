"""Which settings of a recipe advice changes, and to what."""

from __future__ import annotations

import math
from collections.abc import Iterator

from repfold.published import PUBLISHED
from repfold.report import wording
from repfold.report.numbers import finite, number
from repfold.report.signs import Change, Signs

SMALL_SIDE = 32  # px
BRIEF_UPDATES = 1000  # fewer are too few for mixed images
NEW_CLASSIFIER_LR = 0.01  # about which a classifier that begins anew learns with sgd


def livelier(signs: Signs, peak: float) -> tuple[Change, ...]:
    """Return a rate ten times as high; of a network that starts from weights, that of its new classifier alone."""
    head_rate = signs.value("head_rate", 1.0)
    if signs.text("init", "") and peak * head_rate < NEW_CLASSIFIER_LR / 3:
        then = 10 ** round(math.log10(NEW_CLASSIFIER_LR / peak))
        return (Change("head_rate", f"{head_rate:g}", f"{then:g}"),)
    return (Change("lr", f"{peak:.3g}", f"{10 * peak:.2g}"),)


def longer(signs: Signs) -> tuple[Change, ...]:
    """Return twice the epochs."""
    epochs = int(signs.value("epochs", len(signs.run.epochs)))
    return (Change("epochs", str(epochs), str(2 * epochs)),)


def pretrained(signs: Signs) -> tuple[Change, ...]:
    """Return published weights of the same network, if there are any."""
    known = PUBLISHED.get(signs.text("model", ""))
    if known is None:
        return ()
    return (Change("recipe", "none", "fine-tune"), Change("init", "none", known[0].repository))


def calmer(signs: Signs) -> tuple[Change, ...]:
    """Return a third of the rate, and a warm-up where there is none."""
    lr = signs.value("lr", 0.1) or signs.peak_lr or 0.1
    warmup = () if signs.warmed_up else (Change("warmup", "0ep", "5ep"),)
    return (Change("lr", f"{lr:g}", f"{lr / 3:.2g}"), *warmup)


def more_regularisation(signs: Signs) -> Iterator[Change]:
    """Yield what the recipe does not have yet."""
    decay = signs.value("weight_decay", 1e-4)
    if decay < 1e-3:
        yield Change("weight_decay", f"{decay:g}", f"{max(3 * decay, 1e-4):g}")
    if signs.text("crop", "auto") == "centre":
        yield Change("crop", "centre", "auto")
    # Of small images these leave too little: of digits of 8 px accuracy fell when they were followed.
    small = (signs.fact("image_size") or SMALL_SIDE) < SMALL_SIDE
    if not small and signs.text("augment", "none") in ("none", ""):
        yield Change("augment", "none", "randaugment:layers=2,magnitude=9")
    if not small and not _brief(signs) and not signs.value("mixup", 0) and not signs.value("cutmix", 0):
        yield Change("cutmix", "0", "1.0")
    if not signs.value("label_smoothing", 0):
        yield Change("label_smoothing", "0", "0.1")


def _brief(signs: Signs) -> bool:
    """Whether the run has few updates: one of 150 lost 4.4 points by CutMix (n = 3)."""
    images, batch = signs.fact("training_images") or 0.0, signs.value("batch", 0.0)
    return batch > 0 and 0 < len(signs.run.epochs) * images / batch < BRIEF_UPDATES


def less_regularisation(signs: Signs) -> Iterator[Change]:
    """Yield less of what the recipe has."""
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
