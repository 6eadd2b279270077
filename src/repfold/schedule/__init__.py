"""Learning-rate schedules: pure functions ``(step, steps_per_epoch, epochs) -> multiplier of the base rate``.

    schedule.warmup(5, then=schedule.cosine())            # 5 epochs up, then cosine over those that are left
    schedule.warmup("400it", then=..., shape="constant", start=0.1, mode="overlap")
    schedule.restarts(10, 2, of=schedule.inverse_sigmoid(c=0.5))
    schedule.parse("step:size=30ep,factor=0.1")           # and str(schedule) gives the text back

Lengths are epochs (``5``, ``"5ep"``), steps (``"400it"``) or a share of the run (``"10%"``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from repfold import specs
from repfold.schedule.decay import (
    AdjustedStep,
    Constant,
    Cosine,
    Exponential,
    InverseSigmoid,
    OneCycle,
    Piecewise,
    Polynomial,
    Step,
)
from repfold.schedule.length import Length, LengthLike, length
from repfold.schedule.ramps import Cooldown, Warmup, warmup_stable_decay
from repfold.schedule.rate import LearningRate, fine_tuning_lr, linear_scaling
from repfold.schedule.reading import curve, landmarks
from repfold.schedule.schedule import Schedule, ScheduleWarning
from repfold.schedule.sequence import Restarts, StepTail, sgdr, sigmoid_step_tail

adjusted_step = AdjustedStep
constant = Constant
cooldown = Cooldown
cosine = Cosine
exponential = Exponential
inverse_sigmoid = InverseSigmoid
one_cycle = OneCycle
piecewise = Piecewise
polynomial = Polynomial
restarts = Restarts
step = Step
step_tail = StepTail
warmup = Warmup

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "adjusted-step": adjusted_step,
    "constant": constant,
    "cooldown": cooldown,
    "cosine": cosine,
    "exponential": exponential,
    "inverse-sigmoid": inverse_sigmoid,
    "one-cycle": one_cycle,
    "piecewise": piecewise,
    "polynomial": polynomial,
    "restarts": restarts,
    "sgdr": sgdr,
    "sigmoid-step-tail": sigmoid_step_tail,
    "step": step,
    "step-tail": step_tail,
    "warmup": warmup,
    "warmup-stable-decay": warmup_stable_decay,
}


def parse(text: str, *, lr: float | None = None) -> Schedule:
    """Return the schedule that ``text`` describes, e.g. "cosine" or "warmup:length=5ep,then=(step:size=30ep)".

    ``lr`` is the base learning rate; only schedules given in absolute rates (step-tail) need it.

    Raises: RepFoldError for an unknown name or argument, with the nearest match, and for values out of range.
    """
    readers: dict[str, Callable[[str], Any]] = {
        **specs.READERS,
        "LengthLike": length,
        "tuple[LengthLike, ...]": lambda items: tuple(length(item) for item in items.split("/")),
        "Schedule": lambda inner: parse(inner, lr=lr),
    }
    return specs.parse(text, "schedule", SCHEDULES, readers=readers, given={} if lr is None else {"lr": lr})


def learning_rate(
    lr: float, text: str = "cosine", *, warmup: LengthLike = 0, shape: str = "linear", mode: str = "prefix"
) -> LearningRate:
    """Return the base rate ``lr`` under the schedule ``text``, after (or under) a warm-up of length ``warmup``, if any.

    Raises: RepFoldError as ``parse`` and ``Warmup`` do.
    """
    schedule = parse(text, lr=lr)
    if length(warmup).value:
        schedule = Warmup(warmup, then=schedule, shape=shape, mode=mode)
    return LearningRate(lr, schedule)


__all__ = [
    "SCHEDULES",
    "AdjustedStep",
    "Constant",
    "Cooldown",
    "Cosine",
    "Exponential",
    "InverseSigmoid",
    "LearningRate",
    "Length",
    "LengthLike",
    "OneCycle",
    "Piecewise",
    "Polynomial",
    "Restarts",
    "Schedule",
    "ScheduleWarning",
    "Step",
    "StepTail",
    "Warmup",
    "adjusted_step",
    "constant",
    "cooldown",
    "cosine",
    "curve",
    "exponential",
    "fine_tuning_lr",
    "inverse_sigmoid",
    "landmarks",
    "learning_rate",
    "length",
    "linear_scaling",
    "one_cycle",
    "parse",
    "piecewise",
    "polynomial",
    "restarts",
    "sgdr",
    "sigmoid_step_tail",
    "step",
    "step_tail",
    "warmup",
    "warmup_stable_decay",
]
