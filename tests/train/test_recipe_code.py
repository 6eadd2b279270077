"""Which code a recipe stands for."""

from __future__ import annotations

import pytest

from repfold.models import Architecture, Description
from repfold.train import Recipe, recipe_code

RECIPE = Recipe(model="own:net", model_options="width=3")


@pytest.mark.parametrize(
    ("architecture", "believed"),
    [
        (Architecture("own:net", 2, options={"width": 3}), True),
        (Architecture("own:net", 9, in_channels=1, options={"width": 3}), True),  # these are the data's
        (Architecture("other:net", 2, options={"width": 3}), False),
        (Architecture("own:net", 2, options={"width": 3, "command": "rm"}), False),
        (Architecture("own:net", 2, "32px", options={"width": 3}), False),
        (None, False),
    ],
)
def test_a_file_is_believed_that_names_the_code_of_the_recipe_called_alike(architecture, believed):
    assert recipe_code.builds(RECIPE, Description(architecture=architecture)) is believed
