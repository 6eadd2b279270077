"""Recipes: typed, checked, complete on file, and the same after a way through TOML."""

from __future__ import annotations

import dataclasses
import tomllib
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repfold.errors import RepFoldError
from repfold.train import Recipe, recipe_file
from repfold.train.recipe import difference, field_types
from repfold.train.settings import resolve

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SHARES = st.floats(0, 1, exclude_min=True)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    return Recipe(
        data=draw(TEXTS),
        model=draw(TEXTS),
        init=draw(TEXTS),
        per_class=draw(st.sampled_from([(0, 0), (320, 150)])),
        crop_scale=(draw(SHARES), 1.0),
        lr=draw(st.floats(1e-12, 1e6)),
        weight_decay=draw(st.floats(0, 1e300)),
        skip_broken=draw(st.booleans()),
        batch=draw(st.integers(1, 10**9)),
        warmup=draw(st.sampled_from(["0ep", "5", "400it", "10%"])),
        channels=draw(st.sampled_from([0, 1, 3])),
    )


@given(recipes())
def test_toml_gives_back_the_recipe(recipe):
    assert recipe_file.from_toml(recipe_file.to_toml(recipe)) == recipe


def test_a_written_recipe_names_every_field_once_with_its_explanation():
    text = recipe_file.to_toml(Recipe())
    assert list(tomllib.loads(text)) == [field.name for field in dataclasses.fields(Recipe)]
    for field in dataclasses.fields(Recipe):
        assert field.metadata["explanation"] in text


def test_every_field_has_a_type_that_files_and_flags_can_hold():
    for name, kind in field_types().items():
        plain = kind in (bool, int, float, str)
        assert plain or typing.get_origin(kind) in (typing.Literal, tuple), name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 3", "Did you mean 'epochs'?"),
        ("epochs = 3.5", "epochs is 3.5 (float); it must be int"),
        ("epochs = true", "it must be int"),
        ("skip_broken = 1", "it must be bool"),
        ("data = 7", "it must be str"),
        ("epochs = 0", "at least 1"),
        ("lr = -0.1", "at least 0"),
        ("lr = nan", "at least 0"),
        ("weight_decay = inf", "finite"),
        ("flip = 1.5", "at most 1"),
        ("per_class = [3]", "2 values of type int"),
        ("per_class = [3, 0]", "give both numbers"),
        ("per_class = [3, -1]", "at least 0"),
        ('precision = "bf15"', "Did you mean 'bf16'?"),
        ("channels = 2", "Known: 0, 1, 3"),
        ("channels = true", "Known: 0, 1, 3"),
        ('schedule = "cosin"', "Did you mean 'cosine'?"),
        ('warmup = "five"', "is not a length"),
        ('warmup = "5"\nwarmup_shape = "liner"', "Did you mean 'linear'?"),
        ('optimizer = "adamw"\nnesterov = true', "nesterov"),
        ("[train]\nepochs = 3", "recipes are flat"),
        ("epochs = ", "not TOML"),
    ],
)
def test_wrong_recipes_are_refused_with_the_field_and_what_to_do(text, told):
    with pytest.raises(RepFoldError) as caught:
        recipe_file.from_toml(text, name="mine.toml")
    assert str(caught.value).startswith("mine.toml: ") and told in str(caught.value)


def test_whole_numbers_may_be_written_for_real_ones():
    recipe = recipe_file.from_toml("lr = 1\ncrop_scale = [1, 1]")
    assert recipe.lr == 1.0 and type(recipe.lr) is float and recipe.crop_scale == (1.0, 1.0)


def test_a_file_changes_only_what_it_gives():
    base = Recipe(epochs=7, lr=0.5)
    assert recipe_file.from_toml("lr = 0.25", base=base) == dataclasses.replace(base, lr=0.25)


def test_replace_refuses_unknown_fields():
    with pytest.raises(RepFoldError, match="Did you mean 'momentum'"):
        Recipe().replace(momentun=0.9)


def test_differences_leave_out_what_the_result_does_not_depend_on():
    old = Recipe(lr=0.1, checkpoint_every=5)
    assert difference(old, old.replace(checkpoint_every=9, checkpoint_seconds=1.0)) == {}
    assert difference(old, old.replace(lr=0.2, augment="flip")) == {"lr": (0.1, 0.2), "augment": ("none", "flip")}
    assert recipe_file.explain_difference(old, old.replace(model="x")) == '  model: "repvgg-a0" -> "x"'


@pytest.mark.parametrize("name", recipe_file.shipped())
def test_shipped_recipes_are_valid_and_say_what_they_are_for(name):
    recipe = recipe_file.find(name)
    resolve(recipe).learning_rate(0, 10, recipe.epochs)
    assert recipe_file.first_comment(recipe_file.shipped()[name])


def test_a_large_batch_warms_up_under_its_schedule_and_keeps_all_drops():
    """Goyal et al. 2017: a tenth at epochs 30, 60 and 80 of 90, warm-up or not."""
    rate = resolve(recipe_file.find("imagenet-large-batch")).learning_rate
    drops = [epoch for epoch in range(6, 90) if rate(epoch * 10, 10, 90) < 0.5 * rate(epoch * 10 - 1, 10, 90)]
    assert drops == [30, 60, 80] and rate(50, 10, 90) == pytest.approx(3.2)


@pytest.mark.parametrize("name, begins", [("restarts", [0, 625]), ("warmup-restarts", [249, 750])])
def test_recipes_with_restarts_have_two_equal_cycles(name, begins):
    settings = resolve(recipe_file.find(name))
    rates = [0.0, *(settings.lr(step, 50) for step in range(1250))]
    assert [step for step in range(1250) if rates[step] < rates[step + 1] == 0.1] == begins


def test_recipes_are_found_by_name_file_and_run(tmp_path):
    recipe = Recipe(epochs=3)
    recipe_file.write(recipe, tmp_path / "recipe.toml")
    assert recipe_file.find(str(tmp_path)) == recipe_file.find(str(tmp_path / "recipe.toml")) == recipe
    with pytest.raises(RepFoldError, match="Did you mean 'digits'"):
        recipe_file.find("digit")
    with pytest.raises(RepFoldError, match=r"nothing\.toml cannot be read"):
        recipe_file.find(str(tmp_path / "nothing.toml"))


def test_a_folder_of_images_does_not_hide_the_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = recipe_file.find("digits")
    (tmp_path / "digits" / "train").mkdir(parents=True)
    assert recipe_file.find("digits") == shipped
    recipe_file.write(Recipe(epochs=3), tmp_path / "digits" / "recipe.toml")
    assert recipe_file.find("digits") == Recipe(epochs=3)
    (tmp_path / "photos").mkdir()
    with pytest.raises(RepFoldError, match="photos"):
        recipe_file.find("photos")
