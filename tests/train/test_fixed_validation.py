"""What comparisons need of a training: validation images that no seed redraws, and figures that no rounding blurs."""

import pytest

from repfold import models
from repfold.data import open_source
from repfold.train import Recipe, evaluate_model, train
from repfold.train.settings import resolve

TINY = Recipe(
    data="digits",
    model="repvgg-pico",
    preset="32px",
    epochs=1,
    batch=64,
    per_class=(20, 10),
    precision="bf16",
    device="cpu",
    threads=1,
)


def fingerprint(recipe):
    return open_source(resolve(recipe).data).fingerprint.content


def test_seeds_draw_other_images_unless_the_data_have_a_seed_of_their_own():
    free = {fingerprint(TINY.replace(seed=seed)) for seed in (0, 1)}
    fixed = {fingerprint(TINY.replace(seed=seed, data_seed=1)) for seed in (0, 1, 2)}
    assert len(free) == 2 and fixed == {fingerprint(TINY.replace(seed=1))}


@pytest.mark.parametrize("precision", ["auto", "last-fp32", "fp32"])
def test_the_last_epoch_in_float32(tmp_path, precision):
    """The record's last line is what the network, evaluated by itself in float32, gives; and in bf16 it is not."""
    recipe = TINY.replace(val_precision=precision, seed=3, data_seed=1)
    last = train(recipe, tmp_path / "run").records[-1]
    _, metrics = evaluate_model(models.load_model(tmp_path / "run"), tmp_path / "run", device="cpu")
    same = last["val_loss"] == pytest.approx(metrics.loss, rel=1e-6)
    assert same == (precision != "auto")


def test_only_the_last_epoch():
    settings = resolve(TINY.replace(epochs=3, val_precision="last-fp32"))
    assert [settings.evaluates_in_fp32(epoch) for epoch in range(3)] == [False, False, True]
