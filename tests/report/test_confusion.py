import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from repfold.report.confusion import Confusion, class_scores, confusion_of, total, worst_pairs
from repfold.report.heatmap import FEW, heatmap, shortened


@st.composite
def confusions(draw):
    count = draw(st.integers(1, 6))
    rows = [[draw(st.integers(0, 5)) for _ in range(count)] for _ in range(count)]
    return confusion_of({"classes": [f"c{i}" for i in range(count)], "matrix_TP": rows})


def random_confusion(count):
    rng = np.random.default_rng(count)
    rows = rng.integers(0, 3, (count, count)) + 40 * np.eye(count, dtype=int)
    return Confusion(tuple(f"class <{i}>" for i in range(count)), rows)


@given(confusions(), st.integers(1, 8))
def test_worst_pairs_are_the_largest_counts_off_the_diagonal(confusion, most):
    count = len(confusion.classes)
    counts = [int(confusion.matrix_TP[t, p]) for t in range(count) for p in range(count) if t != p]
    expected = sorted((c for c in counts if c), reverse=True)[:most]
    pairs = worst_pairs(confusion, most)
    assert [pair.images for pair in pairs] == expected
    for pair in pairs:
        row = confusion.matrix_TP[int(pair.true[1:])]
        assert pair.true != pair.predicted and pair.images == row[int(pair.predicted[1:])]
        assert pair.share == pytest.approx(pair.images / row.sum())


@given(confusions())
def test_scores_are_recall_and_precision_by_their_definitions(confusion):
    scores = class_scores(confusion)
    known = [score.recall for score in scores if score.recall is not None]
    assert known == sorted(known)
    for score in scores:
        at = int(score.name[1:])
        row, column = confusion.matrix_TP[at], confusion.matrix_TP[:, at]
        assert score.images == row.sum()
        assert score.recall == (pytest.approx(100 * row[at] / row.sum()) if row.sum() else None)
        assert score.precision == (pytest.approx(100 * row[at] / column.sum()) if column.sum() else None)


def test_confusions_add_up_only_over_the_same_classes():
    one, other = random_confusion(3), Confusion(("x", "y", "z"), np.ones((3, 3), dtype=np.int64))
    summed = total([one, one])
    assert summed is not None and (summed.matrix_TP == 2 * one.matrix_TP).all()
    assert total([one, other]) is None and total([]) is None


def test_few_classes_are_cells_that_tell_their_counts():
    confusion = random_confusion(FEW)
    drawing = ElementTree.fromstring(heatmap(confusion))
    shown = [int(text.text) for text in drawing.iter("text") if (text.text or "").isdigit()]
    assert sorted(shown) == sorted(confusion.matrix_TP[confusion.matrix_TP > 0].tolist())
    assert len([rect for rect in drawing.iter("rect") if rect.get("class") == "hit"]) == FEW


def test_many_classes_are_a_picture_of_one_pixel_a_cell():
    confusion = random_confusion(FEW + 5)
    found = re.search(r"base64,([^\"]+)", heatmap(confusion))
    assert found
    rgba = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGBA")).astype(int)
    assert rgba.shape == (FEW + 5, FEW + 5, 4)
    counts = confusion.matrix_TP
    assert ((rgba[..., 3] > 0) == (counts > 0)).all()
    right = np.eye(FEW + 5, dtype=bool)
    assert (rgba[right][:, 2] > rgba[right][:, 0]).all()  # blue
    wrong = ~right & (counts > 0)
    assert (rgba[wrong][:, 0] > rgba[wrong][:, 2]).all()  # orange
    assert rgba[wrong & (counts == 2)][:, 3].min() > rgba[wrong & (counts == 1)][:, 3].max()


def test_long_names_are_shortened():
    assert shortened("short") == "short"
    assert shortened("a very long name indeed", 8) == "a very …"
