"""A recipe that fits a budget of time: network, image size and epochs, as fast as they are measured to be here.

The candidates are a ladder, from what is fast to what is accurate when it can be trained long enough. The highest rung
is taken that leaves enough epochs, and of these as many as fit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from repfold.counted import counted
from repfold.data import Source, Survey, in_memory, look_through
from repfold.data.crops import framing_of
from repfold.errors import RepFoldError
from repfold.signals import look
from repfold.train.assemble import Assembly, assemble
from repfold.train.distributed import Ranks
from repfold.train.events import Listener, Preparing, ignore
from repfold.train.machine import Machine, choose, prepare_process
from repfold.train.pace import Speed, rehearse
from repfold.train.recipe import Recipe
from repfold.train.settings import resolve

FREE = ("model", "image_size", "epochs")  # what is picked, unless it is given
MINUTES = 20.0  # on a CPU, where nothing else is asked for

# Networks and their strides, from the fastest on: of images of about 32 px, and of larger ones, where the first is for
# what would be too slow otherwise and only sees the smallest size.
_SMALL = (("repvgg-pico", "32px"), ("resnet20-cifar", "imagenet"))
_LARGE = (("repvgg-pico", "imagenet"), ("repvgg-a0", "imagenet"))
_SMALL_SIDE = 40  # px
_SIDES = (64, 96, 128, 160, 192, 224)

# Epochs that a network needs before a larger one, or larger images, gain more: of few images; fewer of many.
_ENOUGH_EPOCHS, _ENOUGH_IMAGES, _FEWEST_EPOCHS = 30, 96_000, 5
_BETTER_NETWORK = 0.4  # of them suffice for the better network on the smallest images
_MOST_EPOCHS = 100
_KEPT = 0.9  # of the budget; the rest is for reading images, checkpoints, folding, export, the report
_TRAIN_SAMPLE = 500  # images: the accuracy on training images is for the eye, and costs evaluation
_WARMUP_EPOCHS, _WARMUP_SHARE = 5, 0.2
_MOST_MINUTES = 1e6
_LARGER = 3  # times the budget: what to tell of besides


@dataclass(frozen=True)
class Rung:
    """A network at an image size."""

    model: str
    preset: str
    image_size: int


@dataclass(frozen=True)
class Plan:
    """``recipe``: complete; ``reasons``: what was picked and why, a sentence each; none where nothing was to pick."""

    recipe: Recipe
    reasons: tuple[str, ...] = ()


def plan(recipe: Recipe, given: Collection[str], minutes: float, emit: Listener = ignore) -> Plan:
    """Return ``recipe`` with the fields of FREE that are not ``given`` picked such that it trains about ``minutes``.

    Training steps of the candidates are timed on images without content. With the length go what depends on it: a
    warm-up of five epochs (a fifth of a short run), and fewer training images to evaluate on each epoch.

    Raises: RepFoldError for minutes that are none, and for data or settings that training would refuse.
    """
    if not 0 < minutes < _MOST_MINUTES:
        raise RepFoldError(f"--minutes is {minutes:g}: give the minutes that training may take, as --minutes 20.")
    machine = choose(recipe)
    prepare_process(machine)
    found = look_through(resolve(recipe).data, on_progress=lambda done, total: emit(Preparing(done, total)))
    ladder = rungs(recipe, given, found)
    if len(ladder) == 1 and "epochs" in given:
        return Plan(recipe)
    measured = _Measured(recipe, machine, found)
    rung = _highest(ladder, measured, recipe, given, minutes)
    measured.look(rung)
    epochs = _epochs(measured.epoch_seconds(rung), minutes) if "epochs" not in given else recipe.epochs
    picked = _with(recipe, rung, epochs, given)
    takes = epochs * measured.epoch_seconds(rung) / 60
    reasons = [f"{_told(rung, epochs)}: about {takes:.0f} of the {minutes:g} minutes (--minutes), as measured here"]
    more = _LARGER * minutes
    larger = _highest(ladder, measured, recipe, given, more)
    more_epochs = _epochs(measured.epoch_seconds(larger), more) if "epochs" not in given else epochs
    if (larger, more_epochs) != (rung, epochs):
        reasons.append(f"--minutes {more:g} would take {_told(larger, more_epochs)}")
    return Plan(picked, tuple(reasons))


def rungs(recipe: Recipe, given: Collection[str], found: Survey) -> Sequence[Rung]:
    """Return the candidates, from the fastest on: what is given stays, and images are not enlarged."""
    own = found.framing.image_size
    small = own <= _SMALL_SIDE
    models: Sequence[tuple[str, str]] = _SMALL if small else _LARGE
    if "model" in given:
        models = [(recipe.model, recipe.preset)]
    if "preset" in given:
        models = tuple((name, recipe.preset) for name, _ in models)
    # 0 stays 0: the recipe then takes the images' own size
    sides: Sequence[int] = (
        [own] if "image_size" in given or small else [side for side in _SIDES if side <= own] or [own]
    )
    *first, (name, preset) = models
    return [*(Rung(*fast, sides[0]) for fast in first), *(Rung(name, preset, side) for side in sides)]


class _Measured:
    """How fast rungs are: the smallest of each network as timed, others in proportion to their pixels, until looked at.

    The time of a step grows by the image: the batch is the recipe's.
    """

    def __init__(self, recipe: Recipe, machine: Machine, found: Survey) -> None:
        self.recipe, self.machine, self.found = recipe, machine, found
        self.speeds: dict[Rung, Speed] = {}

    def look(self, rung: Rung) -> Speed:
        """Time the rung itself, if that is still to be done."""
        look()
        if rung not in self.speeds:
            self.speeds[rung] = rehearse(_stand_in(self.recipe, rung, self.machine, self.found))
        return self.speeds[rung]

    def epoch_seconds(self, rung: Rung) -> float:
        """Return the seconds of an epoch with its evaluation, predicted where the rung was not timed."""
        alike = [known for known in self.speeds if (known.model, known.preset) == (rung.model, rung.preset)]
        nearest = min(alike, key=lambda known: abs(known.image_size - rung.image_size), default=rung)
        speed, pixels = self.look(nearest), (rung.image_size / nearest.image_size) ** 2
        train, val = self.found.count("train"), self.found.count("val")
        evaluated = val + min(_TRAIN_SAMPLE, train)
        return pixels * (train // self.recipe.batch * speed.step + evaluated * speed.evaluated_image)


def _highest(
    ladder: Sequence[Rung], measured: _Measured, recipe: Recipe, given: Collection[str], minutes: float
) -> Rung:
    """The last rung of the ladder that leaves enough epochs, or those that are given; the first if none does.

    Raises: RepFoldError as ``assemble``.
    """
    chosen = ladder[0]
    for rung in ladder:
        needed: float = recipe.epochs
        if "epochs" not in given:
            smallest = rung.image_size == ladder[0].image_size
            needed = _enough(measured.found.count("train")) * (_BETTER_NETWORK if smallest else 1.0)
        if measured.epoch_seconds(rung) * needed <= 60 * _KEPT * minutes:
            chosen = rung
    return chosen


def _enough(images: int) -> int:
    return min(max(_ENOUGH_IMAGES // max(images, 1), _FEWEST_EPOCHS), _ENOUGH_EPOCHS)


def _epochs(epoch_seconds: float, minutes: float) -> int:
    return min(max(int(60 * _KEPT * minutes / epoch_seconds), 1), _MOST_EPOCHS)


def _with(recipe: Recipe, rung: Rung, epochs: int, given: Collection[str]) -> Recipe:
    warmup = f"{_WARMUP_EPOCHS}ep" if epochs >= _WARMUP_EPOCHS / _WARMUP_SHARE else f"{100 * _WARMUP_SHARE:g}%"
    size = recipe.image_size if "image_size" in given else rung.image_size
    picked = {"model": rung.model, "preset": rung.preset, "image_size": size}
    if "epochs" not in given:
        picked |= {"epochs": epochs, "warmup": warmup, "train_sample": _TRAIN_SAMPLE}
    return recipe.replace(**{name: value for name, value in picked.items() if name not in given})


def _told(rung: Rung, epochs: int) -> str:
    return f"{rung.model} on images of {rung.image_size} px, {counted(epochs, 'epoch')}"


def _stand_in(recipe: Recipe, rung: Rung, machine: Machine, found: Survey) -> Assembly:
    """A run of the rung on images of noise, framed as those of the data will be, and a few in number."""
    wanted = resolve(
        recipe.replace(model=rung.model, preset=rung.preset, image_size=rung.image_size, init="", warmup="0")
    )
    own = np.concatenate([part.sizes() for part in found.parts.values()])
    framing = framing_of(
        own,
        found.framing.channels == 1,
        image_size=rung.image_size,
        resize=wanted.data.resize,
        crop=wanted.data.crop,
        channels=found.framing.channels,
    )
    noise, classes = np.random.default_rng(0), found.listing.classes
    side = framing.image_size if framing.crop.kind != "resized" else math.ceil(1.5 * framing.resize)
    count = 2 * recipe.batch
    pixels = noise.integers(0, 256, (count, side, side, framing.channels), dtype=np.uint8)
    images = in_memory(pixels, noise.integers(0, len(classes), count), framing)
    return assemble(
        replace(wanted, epochs=100), machine, Ranks(), ignore, source=Source("noise", classes, framing, images, images)
    )
