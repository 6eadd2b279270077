"""The gallery: its drawing, and that what it shows is true."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from repfold.blocks import BLOCKS
from repfold.errors import RepFoldError
from repfold.report.gallery import Equation, Kernel, gallery

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("gallery_script", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules["gallery_script"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["gallery_script"]


def test_every_block_has_its_place(script):
    assert {*script.ENTRIES, "expandnet", "plain"} == set(BLOCKS)


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - {"plain", "expandnet"}))
def test_the_branches_add_up_to_the_fold(script, name):
    equation = script.equation(name)
    total = sum(part.weight_OIHW for part in equation.parts)
    np.testing.assert_allclose(total, equation.result.weight_OIHW, atol=1e-12)
    assert all(np.abs(part.weight_OIHW).max() > 0 for part in equation.parts)


def test_the_factors_multiply_to_the_fold(script):
    equation = script.factors()
    last, middle, first = (part.weight_OIHW for part in equation.parts)
    product = np.einsum("om,mnhw,ni->oihw", last[..., 0, 0], middle, first[..., 0, 0])
    np.testing.assert_allclose(product, equation.result.weight_OIHW, atol=1e-12)


def test_the_committed_picture_shows_every_block(script):
    root = ElementTree.parse(DOCS / "gallery.svg").getroot()
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {entry.title for entry in script.ENTRIES.values()} | {"ExpandNet"} <= set(texts)
    assert texts.count("one 3x3") == len(script.ENTRIES) + 1
    assert (DOCS / "gallery.svg").stat().st_size < 100_000


def squares(svg: str, kind: str) -> int:
    paths = ElementTree.fromstring(svg).iter(f"{SVG}path")
    return sum(len(re.findall("M", path.get("d"))) for path in paths if path.get("class") == kind)


def test_each_weight_is_one_square_of_its_sign():
    kernel = np.zeros((2, 2, 3, 3))
    kernel[0, 0, 1, 1], kernel[1, 0, 0, 2], kernel[1, 1, 2, 2] = 1.0, -0.5, 1e-9
    row = Equation("a < b", "α & β", (Kernel("first", kernel),), Kernel("whole", -kernel))
    drawn = gallery([row])
    assert squares(drawn, "plus") == 3 and squares(drawn, "minus") == 3 and squares(drawn, "frame") == 8
    assert gallery([row, row, row], columns=2).count("first</text>") == 3


def test_what_cannot_be_drawn():
    with pytest.raises(RepFoldError, match="no equations"):
        gallery([])
    broken = Kernel("broken", np.full((1, 1, 3, 3), np.nan))
    with pytest.raises(RepFoldError, match="'row' holds values that are not finite"):
        gallery([Equation("row", "", (broken,), Kernel("whole", np.zeros((1, 1, 3, 3))))])
