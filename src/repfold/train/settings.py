"""The recipe, read: typed values, grouped by what they are for. Nothing after this looks at a recipe's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repfold import norms
from repfold.data import CropSettings, augment
from repfold.data.mixing import Mixing
from repfold.data.settings import AugmentationSettings, DataSettings
from repfold.errors import RepFoldError
from repfold.models import Architecture
from repfold.norms import Norm
from repfold.schedule import LearningRate
from repfold.train import averaging, model_options
from repfold.train.averaging import Averaging
from repfold.train.objective import LossSettings
from repfold.train.optimizers import LookaheadSettings, OptimizerSettings
from repfold.train.recipe import Recipe, read_algorithm, read_learning_rate


@dataclass(frozen=True)
class ModelSettings:
    """A network (see ``models.create``) and what it starts from.

    Attributes:
        norm: what takes the place of each BatchNorm; None: they stay.
        init: the model file or run to take weights from, or "".
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
        return {**self.options, "norm": str(self.norm)} if self.norm else self.options

    def architecture(self, num_classes: int, in_channels: int) -> Architecture:
        """The network for data of so many classes and channels, as model files describe it."""
        return Architecture(self.name, num_classes, self.preset, in_channels, self.plain_options)


@dataclass(frozen=True)
class Settings:
    """What a training is built from. ``recipe``: as it was written, for the run's files and for messages."""

    recipe: Recipe
    data: DataSettings
    augmentation: AugmentationSettings
    model: ModelSettings
    optimizer: OptimizerSettings
    learning_rate: LearningRate
    averaging: Averaging | None
    loss: LossSettings
    epochs: int
    batch: int
    seed: int
    train_sample: int
    checkpoint_every: int
    checkpoint_seconds: float


def resolve(recipe: Recipe) -> Settings:
    """Return what ``recipe`` says, read.

    Raises: RepFoldError for an augmentation or a norm that is none, and for settings that exclude each other.
    """
    return Settings(
        recipe=recipe,
        data=_data(recipe),
        augmentation=AugmentationSettings(
            flip=recipe.flip,
            chain=augment.parse(recipe.augment),
            mixing=Mixing(recipe.mixup, recipe.cutmix, recipe.mixing_share),
        ),
        model=_model(recipe),
        optimizer=OptimizerSettings(
            algorithm=read_algorithm(recipe),
            weight_decay=recipe.weight_decay,
            custom_l2=recipe.custom_l2,
            max_norm=recipe.max_norm,
            lookahead=LookaheadSettings(recipe.lookahead, recipe.lookahead_alpha) if recipe.lookahead else None,
        ),
        learning_rate=read_learning_rate(recipe),
        averaging=averaging.parse(recipe.average),
        loss=LossSettings(
            label_smoothing=recipe.label_smoothing,
            auxiliary_weight=recipe.auxiliary_weight,
            teacher=recipe.teacher,
            distill_weight=recipe.distill_weight,
            distill_temperature=recipe.distill_temperature,
        ),
        epochs=recipe.epochs,
        batch=recipe.batch,
        seed=recipe.seed,
        train_sample=recipe.train_sample,
        checkpoint_every=recipe.checkpoint_every,
        checkpoint_seconds=recipe.checkpoint_seconds,
    )


def _data(recipe: Recipe) -> DataSettings:
    return DataSettings(
        spec=recipe.data,
        image_size=recipe.image_size or None,
        resize=recipe.resize or None,
        crop=_crop(recipe),
        channels=recipe.channels or None,
        val_fraction=recipe.val_fraction,
        per_class=recipe.per_class if any(recipe.per_class) else None,
        seed=recipe.seed,
        skip_broken=recipe.skip_broken,
        max_pixels=recipe.max_pixels,
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
    if ":" not in recipe.model:  # a factory of the user's may know other norms
        norm = norms.replacement(options.get("norm"))
        options = {name: value for name, value in options.items() if name != "norm" or norm is None}
    return ModelSettings(
        name=recipe.model,
        preset=recipe.preset,
        options=options,
        norm=norm,
        init=recipe.init,
        expand=recipe.expand,
        scales=recipe.scales,
        online_fold=recipe.online_fold,
    )
