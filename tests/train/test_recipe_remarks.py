"""Figures beside settings: every one stands with a recipe that exists and a record that can be found."""

import json
import re
from pathlib import Path

import pytest

from repfold import models
from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.train import Recipe, recipe_file
from repfold.train.recipe_remarks import Remark, in_brief, remarks
from repfold.train.settings import resolve

ROOT = Path(__file__).parents[2]
TEXT = """# What it is for.
# published: 90 % top-1
# published schedule=step batch=16: 89.5 % top-1
# reached lr=0.05: 91.0 ± 0.2 % top-1, n = 3, docs/results/x.md
# anything else: is no figure
lr = 0.1  # published: not a line of its own
"""


def test_remarks_are_read_with_their_settings():
    told = remarks(TEXT)
    assert [remark.kind for remark in told] == ["published", "published", "reached"]
    assert told[1] == Remark("published", {"schedule": "step", "batch": "16"}, "89.5 % top-1")
    assert told[1].recipe(Recipe()) == Recipe(schedule="step", batch=16)
    assert told[1].flags() == "--schedule step --batch 16"
    assert told[2].recipe(Recipe()).lr == 0.05


def test_a_recipe_without_results_says_so():
    assert in_brief(()) == "not run here"
    assert in_brief(remarks(TEXT)) == (
        "reached 91.0 ± 0.2 % top-1, n = 3, docs/results/x.md; published: 90 % top-1, and 1 more"
    )


def test_a_remark_of_settings_that_are_none_is_refused():
    with pytest.raises(RepFoldError, match="schedule"):
        Remark("published", {"shedule": "step"}, "").recipe(Recipe())
    with pytest.raises(RepFoldError, match="cannot be read"):
        Remark("published", {"batch": "?"}, "").recipe(Recipe())


@pytest.mark.parametrize("name, text", recipe_file.shipped().items())
def test_every_figure_of_a_shipped_recipe_is_of_one_that_could_be_run(name, text):
    base = recipe_file.find(name)
    for remark in (Remark("", {}, ""), *remarks(text)):
        recipe = remark.recipe(base)
        resolve(recipe).learning_rate(0, 10, recipe.epochs)
        assert recipe.model in models.MODELS
        if remark.kind == "reached":
            (where,) = re.findall(r"docs/\S+\.md", remark.text)
            assert (ROOT / where).exists()


def test_every_table_of_the_experiments_has_its_recipe_with_all_figures():
    figures = {name: len(remarks(text)) for name, text in recipe_file.shipped().items()}
    assert figures["cifar10-schedules-mgnet64"] >= 10 and figures["cifar10-schedules-resnet18"] >= 5
    assert figures["cifar10-general-norm-mgnet64"] >= 15 and figures["cifar10-group-norm-mgnet64"] >= 15
    assert figures["cifar10-group-norm-resnet56"] >= 15 and figures["imagenet-resnet50-augmentation"] >= 9


def test_the_command_lists_figures_and_where_they_are_recorded(capsys):
    main(["recipes"])
    told = capsys.readouterr().out
    assert "not run here; published: 92.7 % top-1, and 9 more" in told and "docs/results/warmup.md" in told
    main(["recipes", "cifar10-general-norm-mgnet64"])
    assert "# published --norm general:1/4/1/1 --batch 16: 84.95 % top-1" in capsys.readouterr().out
    main(["recipes", "--json"])
    known = json.loads(capsys.readouterr().out)
    assert known["warmup-linear"]["results"][0]["kind"] == "published"
