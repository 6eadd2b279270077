"""What in a recipe is legal but surely not meant, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from repfold.schedule import Warmup
from repfold.train.settings import Settings

# A batch from which on warm-up is known to matter (Goyal et al. 2017).
LARGE_BATCH = 1024


def unusual_settings(settings: Settings, steps_per_epoch: int) -> Iterator[str]:
    """Yield a sentence for each setting that is surely a mistake in a run of so many steps an epoch."""
    recipe, lr, averaging = settings.recipe, settings.learning_rate.base, settings.averaging
    low, high = settings.optimizer.algorithm.usual_lr
    if not low <= lr <= high:
        side, usual = ("high", high) if lr > high else ("low", low)
        offer = "0.1 is usual for sgd, 0.001 for rmsprop and adam, 1 for adadelta"
        yield f"lr {lr:g} is {side} for {recipe.optimizer} (beyond {usual:g}): {offer}."
    steps = steps_per_epoch * recipe.epochs
    if recipe.batch >= LARGE_BATCH and not isinstance(settings.learning_rate.schedule, Warmup):
        yield f"Batches of {recipe.batch} images without warm-up often diverge or end worse: try warmup 5ep."
    if averaging is not None and averaging.decay is not None and 1 / (1 - averaging.decay) > steps / 2:
        yield (
            f"The average remembers about {1 / (1 - averaging.decay):,.0f} steps, of a run of {steps:,}: it will lag "
            "behind the weights to the end. Choose a smaller decay."
        )
    if averaging is not None and averaging.each_epoch and recipe.epochs * (1 - averaging.start) < 2:
        yield "swa averages fewer than two epochs, which changes nothing: let it start earlier."
    if recipe.lookahead == 1:
        yield "lookahead of 1 only scales every step: 5 is usual, 0 turns it off."
    if recipe.teacher and recipe.distill_weight == 0:
        yield "The teacher is never listened to: distill_weight is 0."
    if recipe.mixup and recipe.mixup > 1 and not recipe.cutmix:
        yield f"MixUp with alpha {recipe.mixup:g} makes most images half and half: 0.2 is usual."
