"""The recipe, read: typed values, grouped by what they are for. Nothing after this looks at a recipe's text."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from repfold import norms
from repfold.data import CropSettings, augment
from repfold.data.augment import Chain, Flip, Mixing
from repfold.data.settings import DataSettings
from repfold.errors import RepFoldError
from repfold.models import Architecture
from repfold.norms import Norm
from repfold.schedule import LearningRate, Length, length
from repfold.train import averaging, model_options, normalisation
from repfold.train.averaging import Averaging
from repfold.train.normalisation import Normalisation
from repfold.train.objective import LossSettings
from repfold.train.optimizers import OptimizerSettings
from repfold.train.recipe import Recipe, read_algorithm, read_learning_rate, seed_of_data


@dataclass(frozen=True)
class ModelSettings:
    """A network (see ``models.create``) and what it starts from.

    Attributes:
        norm: what replaces each BatchNorm; None: they stay.
        init: what to take weights from, as ``models.locate`` finds it, or "".
        expand: the structure in place of each convolution, or "".
        scales: those of a RepOpt target, or "".
        online_fold: run branches as one convolution that is folded at every step.
    """

    name: str
    preset: str
    options: Mapping[str, Any]
    norm: Norm | None
    init: str
    expand: str
    scales: str
    online_fold: bool

    @property
    def plain_options(self) -> Mapping[str, Any]:
        """The options as model files hold them, the norm among them as its text."""
        return {**self.options, "norm": self.norm.text} if self.norm else self.options

    def architecture(self, num_classes: int, in_channels: int) -> Architecture:
        """The network for data of so many classes and channels, as model files describe it."""
        expanded = self.expand if ":" in self.name else ""
        return Architecture(self.name, num_classes, self.preset, in_channels, self.plain_options, expanded)


@dataclass(frozen=True)
class Settings:
    """What a training is built from.

    Attributes:
        recipe: as it was written, for the run's files and for messages.
        augmentation: of batches of training images, on the device; then ``mixing`` of them with one another.
        train_sample: training images that the training accuracy of each epoch is taken of.
        layer_decay, head_rate: rates of the layers, see ``optim.layer_rates``.
        head_first: how long the classifier alone is trained.
        patience: epochs without a better validation top-1 after which the run ends; 0: never.
        balanced: whether every class has as many images in each epoch.
        val_precision: that of evaluation: "auto", "last-fp32" or "fp32".
        checkpoint_every: steps between checkpoints; 0: only at the end of epochs, and after ``checkpoint_seconds``.
    """

    recipe: Recipe
    data: DataSettings
    augmentation: Chain
    mixing: Mixing
    model: ModelSettings
    optimizer: OptimizerSettings
    learning_rate: LearningRate
    averaging: Averaging | None
    normalisation: Normalisation
    loss: LossSettings
    layer_decay: float
    head_rate: float
    head_first: Length
    epochs: int
    patience: int
    batch: int
    balanced: bool
    seed: int
    train_sample: int
    val_precision: str
    checkpoint_every: int
    checkpoint_seconds: float

    def evaluates_in_fp32(self, epoch: int) -> bool:
        """Return whether the network after ``epoch``, from 0, is evaluated in float32 whatever training runs in."""
        return self.val_precision == "fp32" or (self.val_precision == "last-fp32" and epoch == self.epochs - 1)

    def lr(self, index: int, steps_per_epoch: int) -> float:
        """Return the learning rate of update number ``index`` of the run, from 0."""
        return self.learning_rate(index, steps_per_epoch, self.epochs)

    def for_images(self, count: int) -> Settings:
        """Return the settings for so many training images, on which the learning rate of fine-tuning depends."""
        return dataclasses.replace(self, learning_rate=read_learning_rate(self.recipe, count))


def resolve(recipe: Recipe) -> Settings:
    """Return what ``recipe`` says, read.

    Raises: RepFoldError for an augmentation or a norm that is none, and for settings that exclude each other.
    """
    flip = (Flip(recipe.flip),) if recipe.flip else ()
    return _group(
        Settings,
        recipe,
        recipe=recipe,
        data=_data(recipe),
        augmentation=Chain((*flip, *augment.parse(recipe.augment).links)),
        mixing=Mixing(recipe.mixup, recipe.cutmix, recipe.mixing_share),
        model=_model(recipe),
        optimizer=_group(OptimizerSettings, recipe, algorithm=read_algorithm(recipe)),
        learning_rate=read_learning_rate(recipe),
        averaging=averaging.parse(recipe.average),
        normalisation=normalisation.parse(recipe.normalise),
        loss=_group(LossSettings, recipe),
        head_first=length(recipe.head_first),
        balanced=recipe.sampling == "balanced",
    )


T = TypeVar("T")


def _group(kind: type[T], recipe: Recipe, /, **read: Any) -> T:
    """Return a dataclass of what was ``read`` and, for its other fields, of those of the recipe with the same names."""
    names = inspect.signature(kind).parameters.keys() - read.keys()
    return kind(**read, **{name: getattr(recipe, name) for name in names})


def _data(recipe: Recipe) -> DataSettings:
    return _group(
        DataSettings,
        recipe,
        spec=recipe.data,
        image_size=recipe.image_size or None,
        resize=recipe.resize or None,
        crop=_crop(recipe),
        channels=recipe.channels or None,
        per_class=recipe.per_class if any(recipe.per_class) else None,
        seed=seed_of_data(recipe),
    )


def _crop(recipe: Recipe) -> CropSettings | None:
    """The recipe's crop, or None when the images are to decide and nothing is set that only one kind takes."""
    usual = CropSettings()
    kind = recipe.crop
    if kind == "auto":
        resized = (recipe.crop_scale, recipe.crop_ratio) != (usual.scale, usual.ratio)
        padded = recipe.crop_padding != usual.padding
        if resized and padded:
            raise RepFoldError("crop_padding is for crop 'padded', crop_scale and crop_ratio for 'resized': say which.")
        if not resized and not padded:
            return None
        kind = "resized" if resized else "padded"
    return CropSettings(kind, recipe.crop_scale, recipe.crop_ratio, recipe.crop_padding)


def _model(recipe: Recipe) -> ModelSettings:
    options = model_options.read(recipe.model_options)
    if recipe.norm:
        options["norm"] = recipe.norm
    norm = None
    if ":" not in recipe.model and norms.is_norm(options.get("norm")):  # a factory of the user's may know other norms
        norm = norms.parse(options.pop("norm"))
    return _group(ModelSettings, recipe, name=recipe.model, options=options, norm=norm)
