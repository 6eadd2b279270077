"""A recipe is read once: what it says as text becomes typed values, each error as it is written."""

import pytest

from repfold import schedule
from repfold.data import CropSettings
from repfold.data.augment import Cutout, Flip
from repfold.errors import RepFoldError
from repfold.train import Recipe, averaging, optimizers
from repfold.train.settings import resolve


def test_the_learning_rate_is_the_schedule_with_its_warm_up_over_a_base():
    rate = resolve(
        Recipe(schedule="cosine", warmup="5", warmup_shape="constant", warmup_mode="overlap", lr=0.4, lr_batch=256)
    ).learning_rate
    assert rate.schedule == schedule.warmup(5, then=schedule.cosine(), shape="constant", mode="overlap")
    assert rate.base == 0.1 and rate(17, 2, 10) == 0.1 * rate.schedule(17, 2, 10)
    assert resolve(Recipe()).learning_rate.schedule == schedule.cosine()
    assert resolve(Recipe(lr=0.02, schedule="step-tail")).learning_rate.schedule == schedule.step_tail(lr=0.02)


def test_what_is_off_is_none():
    settings = resolve(Recipe())
    assert settings.averaging is settings.model.norm is None
    assert settings.data.image_size is settings.data.crop is settings.data.per_class is None
    assert settings.augmentation.links == (Flip(0.5),)


def test_texts_become_values():
    recipe = Recipe(
        average="ema:decay=0.9",
        optimizer="adamw:beta2=0.98",
        lookahead=4,
        norm="group:4",
        model_options="channels=8,iterations=1/2",
        augment="cutout",
        crop_padding=0.25,
    )
    settings = resolve(recipe)
    assert settings.averaging == averaging.ema(decay=0.9)
    assert settings.optimizer.algorithm == optimizers.AdamW(beta2=0.98)
    assert (settings.optimizer.lookahead, settings.optimizer.lookahead_alpha) == (4, 0.5)
    assert settings.model.norm.text == "group:4" and settings.model.options == {"channels": 8, "iterations": (1, 2)}
    assert settings.model.architecture(3, 1).options == {"channels": 8, "iterations": (1, 2), "norm": "group:4"}
    assert settings.augmentation.links == (Flip(0.5), Cutout())
    assert settings.data.crop == CropSettings("padded", padding=0.25)


def test_a_norm_among_the_options_of_a_network_is_one_where_it_is_a_text():
    assert resolve(Recipe(model_options="norm=layer")).model.norm.text == "layer"
    without = resolve(Recipe(model="vgg-pico", model_options="norm=false")).model
    assert without.norm is None and without.options == {"norm": False}
    foreign = resolve(Recipe(model="package.module:factory", norm="their-own")).model
    assert foreign.norm is None and foreign.options == {"norm": "their-own"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "gruop:2"}, "Did you mean 'group'"),
        ({"augment": "cutuot"}, "Did you mean 'cutout'"),
        ({"crop_padding": 0.2, "crop_scale": (0.5, 1.0)}, "say which"),
    ],
)
def test_what_cannot_be_read_is_refused(changes, message):
    with pytest.raises(RepFoldError, match=message):
        resolve(Recipe(**changes))
