"""The recipe: every setting of a training, flat, typed, checked, with its explanation beside it."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from repfold.errors import RepFoldError, nearest
from repfold.limits import LARGEST_COUNT, LARGEST_SIDE, MOST_PIXELS
from repfold.schedule import LearningRate, fine_tuning_lr, learning_rate, length, linear_scaling
from repfold.train import averaging, model_options, normalisation, optimizers
from repfold.train.optimizers import Algorithm, Sgd


def setting(
    default: Any,
    explanation: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    free: bool = False,
) -> Any:
    """Declare a field with its bounds (of numbers; of each number of a tuple).

    ``free``: it may change when a run is resumed, because the result does not depend on it.
    """
    metadata = {"explanation": explanation, "low": low, "above": above, "high": high, "free": free}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Recipe:
    """What a run is a function of. Field names are the keys of recipe files and, with dashes, the flags of ``train``.

    Raises: RepFoldError, naming the field, for values of a wrong type or out of range.
    """

    data: str = setting("", "a folder of class folders, CIFAR or IDX files, or the name of a built-in set (digits)")
    per_class: tuple[int, int] = setting((0, 0), "training, validation images drawn of each class; 0 0: all", low=0)
    val_fraction: float = setting(0.2, "share of each class for validation, if the data has no split", above=0, high=1)
    skip_broken: bool = setting(False, "go on without files that cannot be decoded")
    image_size: int = setting(
        0, "side of the square that the network sees, px; 0: that of the images, or 224", low=0, high=LARGEST_SIDE
    )
    resize: int = setting(
        0, "short side before evaluation's central crop, px; 0: suited to image_size", low=0, high=LARGEST_SIDE
    )
    max_pixels: int = setting(MOST_PIXELS, "most pixels of an image file: larger ones are broken", low=1)
    channels: Literal[0, 1, 3] = setting(0, "1 gray, 3 colour; 0: as the images are")
    crop: Literal["auto", "resized", "padded", "centre"] = setting(
        "auto", "training crop; auto: padded for small images, else resized"
    )
    crop_scale: tuple[float, float] = setting((0.08, 1.0), "share of the area of a resized crop", above=0, high=1)
    crop_ratio: tuple[float, float] = setting((3 / 4, 4 / 3), "aspect ratio of a resized crop", above=0)
    crop_padding: float = setting(0.125, "padding of a padded crop, a share of the side", low=0, high=1)
    flip: float = setting(0.5, "probability of mirroring a training image left to right", low=0, high=1)
    augment: str = setting("none", "augmentations joined by +, as randaugment:layers=2,magnitude=9+cutout")
    mixup: float = setting(0.0, "alpha of MixUp; 0: off", low=0)
    cutmix: float = setting(0.0, "alpha of CutMix; 0: off", low=0)
    mixing_share: float = setting(1.0, "share of the training images that MixUp or CutMix mixes", low=0, high=1)

    model: str = setting("repvgg-a0", "a network of RepFold, or package.module:factory")
    model_options: str = setting("", "options of the network, as block=dbb,activation=leaky-relu or iterations=2/2/2")
    norm: str = setting("", "what replaces each BatchNorm, as group:16, layer or general:1/16/1/1")
    preset: str = setting("imagenet", "strides: imagenet (the original ones) or 32px (for images of about 32 px)")
    init: str = setting(
        "",
        "weights to start from: a repository (timm/repvgg_a0.rvgg_in1k), an address, a file, a run; all but a "
        "classifier of other classes is loaded",
    )
    normalise: str = setting(
        "auto",
        "mean and deviation of pixels: of init or else the training images (auto), data, imagenet, or numbers "
        "from 0 to 1 as 0.5/0.5/0.5,0.2/0.2/0.2",
    )

    expand: str = setting("", "structure in place of each convolution, as acb or dbb (see repfold.expand)")
    scales: str = setting("", "of a RepOpt target: the hyper-search's run, a model file of it, or a scales file")
    online_fold: bool = setting(False, "run branches without norms inside as one convolution, folded at every step")

    epochs: int = setting(25, "passes over the training images", low=1)
    patience: int = setting(0, "epochs without a better validation top-1 after which the run ends; 0: never", low=0)
    batch: int = setting(64, "images an optimizer step, over all processes", low=1)
    sampling: Literal["shuffled", "balanced"] = setting(
        "shuffled", "which images an epoch has: all once, or as many of each class (those of small ones again)"
    )
    optimizer: str = setting("sgd", "sgd, rmsprop, adam, adamw or adadelta; with options as adam:beta2=0.98,eps=1e-6")
    lr: float = setting(
        0.1, "base learning rate, which the schedule multiplies; 0: as fine-tuning on so many images wants it", low=0
    )
    lr_batch: int = setting(0, "batch that lr is meant for: lr is scaled linearly to the batch; 0: not scaled", low=0)
    layer_decay: float = setting(
        1.0, "rate of each layer, as a share of that of the layer above it (fine-tuning: 0.7 to 0.9)", above=0, high=1
    )
    head_rate: float = setting(1.0, "rate of the classifier, as a multiple of that of the layers below it", above=0)
    head_first: str = setting("0ep", "how long the classifier alone is trained at first: as 3ep, 100it or 20%")
    momentum: float = setting(0.9, "momentum of sgd and rmsprop; beta1 of adam and adamw", low=0, high=1)
    nesterov: bool = setting(False, "Nesterov's momentum (sgd)")
    weight_decay: float = setting(1e-4, "L2 decay, decoupled in adamw; none on norms and biases", low=0)
    max_norm: float = setting(0.0, "longest that a convolution's filter may be after each step; 0: no limit", low=0)
    custom_l2: bool = setting(False, "take the decay of RepVGG blocks of the kernel that their branches amount to")
    lookahead: int = setting(0, "steps of the optimizer between two of Lookahead's slow weights; 0: off", low=0)
    lookahead_alpha: float = setting(0.5, "how far the slow weights go each time", above=0, high=1)
    average: str = setting("none", "weights to evaluate and keep: none, ema:decay=0.999 or swa:start=0.75")
    schedule: str = setting("cosine", "learning-rate schedule, as cosine, step:size=30ep, sgdr:first=5ep")
    warmup: str = setting("0ep", "length of the warm-up before it: epochs as 5 or 5ep, steps as 400it, a share as 10%")
    warmup_shape: str = setting("linear", "linear, constant or exponential")
    warmup_mode: str = setting("prefix", "prefix: the schedule begins after the warm-up; overlap: under it")
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", low=0, high=1)
    class_weights: Literal["none", "balanced"] = setting(
        "none", "what the loss of an image counts; balanced: each class in all as much as any other"
    )
    auxiliary_weight: float = setting(0.1, "weight of the loss of each auxiliary classifier", low=0)
    teacher: str = setting("", "model file or run whose network is to be learnt from (distillation)")
    distill_weight: float = setting(0.5, "weight of the teacher's loss; that of the labels has the rest", low=0, high=1)
    distill_temperature: float = setting(4.0, "softens the teacher's probabilities", above=0)
    seed: int = setting(0, "of the weights, the split, the order and the augmentation", low=0, high=2**63 - 1)

    data_seed: int = setting(
        -1,
        "of the split and of what per_class draws, where seed should not decide it; -1: seed",
        low=-1,
        high=2**63 - 1,
    )

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train; auto: on a GPU when there is one")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", "of activations and gradients; auto: bf16 where the hardware multiplies it"
    )
    val_precision: Literal["auto", "last-fp32", "fp32"] = setting(
        "auto", "of evaluation; auto: as in training; last-fp32: as in training, after the last epoch fp32; fp32"
    )
    channels_last: Literal["auto", "on", "off"] = setting("auto", "memory layout of images: NHWC (on) or NCHW (off)")
    fused: Literal["auto", "on", "off"] = setting("auto", "one kernel for the whole optimizer step")
    threads: int = setting(0, "CPU threads of each process; 0: what PyTorch finds, shared among processes", low=0)
    train_sample: int = setting(2000, "training images, unaugmented, for the training accuracy of each epoch", low=1)
    checkpoint_every: int = setting(0, "steps between checkpoints, besides one an epoch; 0: none", low=0, free=True)
    checkpoint_seconds: float = setting(300.0, "seconds after which a step writes a checkpoint", above=0, free=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _checked_type(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            _check_bounds(field.name, value, field.metadata)
        if (self.per_class[0] == 0) != (self.per_class[1] == 0):
            raise RepFoldError(f"per_class is {self.per_class}: give both numbers, or 0 0 for all images.")
        read_algorithm(self)
        averaging.parse(self.average)
        model_options.read(self.model_options)
        read_learning_rate(self)
        length(self.head_first)
        normalisation.parse(self.normalise)

    def replace(self, **changes: Any) -> Recipe:
        """Return the recipe with some fields changed. Raises: RepFoldError for an unknown field or a wrong value."""
        check_names(changes)
        return dataclasses.replace(self, **changes)


def read_learning_rate(recipe: Recipe, images: int = 1) -> LearningRate:
    """Return the learning rate: its base, scaled from ``lr_batch`` to ``batch`` if asked, under schedule and warm-up.

    A base of 0 becomes what suits fine-tuning on so many training ``images``.

    Raises: RepFoldError for a schedule or a warm-up that is none, and for a base of 0 with another optimizer than sgd.
    """
    if recipe.lr:
        base = linear_scaling(recipe.lr, recipe.batch, recipe.lr_batch) if recipe.lr_batch else recipe.lr
    elif isinstance(read_algorithm(recipe), Sgd):
        base = fine_tuning_lr(images, recipe.batch)
    else:
        raise RepFoldError(
            f"lr 0 stands for the rate that sgd wants for fine-tuning; {recipe.optimizer} needs one of its own: try "
            "--lr 0.0001."
        )
    return learning_rate(
        base, recipe.schedule, warmup=recipe.warmup, shape=recipe.warmup_shape, mode=recipe.warmup_mode
    )


def seed_of_data(recipe: Recipe) -> int:
    """Return the seed that decides which images are trained on, and which are for validation."""
    return recipe.seed if recipe.data_seed < 0 else recipe.data_seed


def read_algorithm(recipe: Recipe) -> Algorithm:
    """Return the optimization algorithm with its options. Raises: RepFoldError when it is none."""
    return optimizers.parse(recipe.optimizer, momentum=recipe.momentum, nesterov=recipe.nesterov)


_LARGEST = 2**63 - 1


@cache
def field_types() -> Mapping[str, Any]:
    """The type of each field, by name, in order."""
    hints = typing.get_type_hints(Recipe)
    return {field.name: hints[field.name] for field in dataclasses.fields(Recipe)}


# What other tools call some of the fields.
_CALLED_ELSEWHERE = {"learning_rate": "lr", "batch_size": "batch", "num_epochs": "epochs", "img_size": "image_size"}


def check_names(names: Mapping[str, Any]) -> None:
    """Raise RepFoldError, with the nearest match, for a name that is no field of a recipe."""
    for name in names:
        if name not in field_types():
            offer = nearest(_CALLED_ELSEWHERE.get(name, name), field_types())
            raise RepFoldError(f"Unknown recipe key '{name:.100}'. {offer}")


def difference(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return field -> (old value, new value) of the fields that differ and on which the result of a run depends."""
    pairs = {
        field.name: (getattr(old, field.name), getattr(new, field.name))
        for field in dataclasses.fields(Recipe)
        if not field.metadata["free"]
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# Type -> (what may be written for it, how that is converted): lists are TOML's tuples.
_CONVERSIONS: dict[Any, tuple[type, Callable[[Any], Any]]] = {float: (int, float), tuple: (list, tuple)}


def _converted(value: Any, wanted: Any) -> Any:
    written, convert = _CONVERSIONS.get(wanted, (wanted, wanted))
    try:
        return convert(value) if type(value) is written else value
    except OverflowError:  # a whole number that no float holds
        return value


def _checked_type(name: str, value: Any) -> Any:
    expected = field_types()[name]
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    for number in value if isinstance(value, list | tuple) else (value,):
        if isinstance(number, int) and abs(number) > _LARGEST:
            raise RepFoldError(f"{name} is a number of more than 64 bits, which nothing in a training can be.")
    if origin is Literal:
        if value not in arguments or type(value) is not type(arguments[0]):
            known = ", ".join(str(choice) for choice in arguments)
            offer = nearest(value, map(str, arguments)) if isinstance(value, str) else f"Known: {known}."
            raise RepFoldError(f"{name} is {value!r:.100}. {offer}")
        return value
    value = _converted(value, origin or expected)
    if origin is tuple and isinstance(value, tuple) and len(value) == len(arguments):
        value = tuple(_converted(item, kind) for item, kind in zip(value, arguments, strict=True))
        if all(type(item) is kind for item, kind in zip(value, arguments, strict=True)):
            return value
    elif type(value) is expected:
        if isinstance(value, str):
            _check_text(name, value)
        return value
    wanted = f"{len(arguments)} values of type {arguments[0].__name__}" if origin is tuple else expected.__name__
    raise RepFoldError(f"{name} is {value!r:.100} ({type(value).__name__}); it must be {wanted}.")


def _check_text(name: str, value: str) -> None:
    try:
        written = value.encode("utf-8")
    except UnicodeEncodeError:
        raise RepFoldError(f"{name} is {value!a}, which is no UTF-8 text: rename the file or folder.") from None
    if b"\0" in written:
        raise RepFoldError(f"{name} is {value!r}: no name of a file or setting holds a zero byte.")


def _check_bounds(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, int | float):
            continue
        low, above, high = bounds["low"], bounds["above"], bounds["high"]
        if high is None and isinstance(number, int):
            high = LARGEST_COUNT
        good = (
            (isinstance(number, int) or math.isfinite(number))
            and (low is None or number >= low)
            and (above is None or number > above)
        )
        if not good or (high is not None and number > high):
            limits = [f"at least {low}"] * (low is not None) + [f"above {above}"] * (above is not None)
            limits += [f"at most {high}"] * (high is not None) or ["finite"]
            raise RepFoldError(f"{name} is {number}; it must be {' and '.join(limits)}.")
