"""The studies that come with RepFold: read at every scale, their networks built, and a little of each trained."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from torch import nn

from repfold import models
from repfold.cli import main
from repfold.study import study_file
from repfold.study.study import SCALES, Study
from repfold.train import train
from repfold.train.recipe import Recipe
from repfold.train.settings import resolve

SCALED = sorted(name for name, text in study_file.shipped().items() if study_file.scales_of(text))
CASES = [(name, scale) for name in SCALED for scale in SCALES]


@cache
def found(name: str, scale: str) -> Study:
    return study_file.find(name, scale=scale)


def test_every_table_and_figure_of_the_sources_has_one() -> None:
    assert set(SCALED) == {
        "augmentations",
        "blocks",
        "crop-scale",
        "general-norm-mgnet",
        "group-norm-mgnet",
        "int8-blocks",
        "label-smoothing",
        "large-batch",
        "norm-batch-resnet",
        "optimizers",
        "plain-100-layers",
        "plain-30-layers",
        "repopt",
        "schedules-mgnet",
        "schedules-resnet18",
        "warmup-rate",
        "warmup-repvgg",
        "weight-decay",
    }


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_each_says_what_its_scale_is_and_its_recipes_can_be_scheduled(name: str, scale: str) -> None:
    study = found(name, scale)
    assert study.name == name and study.about and len(study.seeds) >= 3
    for arm in study.arms:
        settings = resolve(arm.recipe)
        assert all(settings.lr(step, 10) > 0 for step in (0, settings.epochs * 10 - 1))
        if scale == "small":
            assert arm.recipe.data == "digits"


@pytest.mark.parametrize("name", SCALED)
def test_published_figures_are_those_of_arms_at_full_scale(name: str) -> None:
    study = found(name, "full")
    names = {arm.name for arm in study.arms} | {arm.group for arm in study.arms}
    assert [figure.arm for figure in study.published if figure.arm not in names] == []
    assert all(figure.source for figure in study.published)


def test_every_network_of_every_scale_can_be_built(monkeypatch) -> None:
    for name in [name for name in vars(nn.init) if name.endswith("_")]:  # which is most of the time, even of no values
        monkeypatch.setattr(nn.init, name, lambda tensor, *given, **more: tensor)
    recipes = [arm.recipe for name, scale in CASES for arm in found(name, scale).arms]
    recipes += [recipe for name, scale in CASES for recipe in found(name, scale).before.values()]
    kinds = {(r.model, r.model_options, r.norm, r.preset): r for r in recipes}
    for recipe in kinds.values():
        model = resolve(recipe).model
        with torch.device("meta"):
            models.create(model.name, num_classes=10, preset=model.preset, **model.plain_options)


def shortened(recipe: Recipe) -> Recipe:
    """Two steps of few images, whatever the recipe's length."""
    cut = {"epochs": 1, "batch": 8, "per_class": (2, 1), "train_sample": 8, "threads": 1, "precision": "fp32"}
    return recipe.replace(**cut, scales="", warmup="0ep", schedule="constant")


@pytest.mark.parametrize("name", SCALED)
def test_the_middle_arm_at_small_scale_trains(tmp_path, name: str) -> None:
    arms = found(name, "small").arms
    result = train(shortened(arms[len(arms) // 2].recipe), tmp_path / "run")
    assert 0 <= result.records[-1]["val_top1"] <= 100


def test_the_list_fits_a_screen_and_one_study_tells_its_scales(capsys):
    main(["study", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in study_file.shipped())
    main(["study", "list", "repopt"])
    told = capsys.readouterr().out
    assert all(f"--scale {scale} " in told for scale in study_file.scales_of(study_file.shipped()["repopt"]))
    main(["study", "list", "repopt", "--json"])
    assert set(json.loads(capsys.readouterr().out)["repopt"]["scales"]) == {"small", "medium", "full"}
    with pytest.raises(SystemExit):
        main(["study", "list", "repotp"])
    assert "Did you mean 'repopt'" in capsys.readouterr().err
