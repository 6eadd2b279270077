import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from repfold.errors import RepFoldError
from repfold.report.chart import Chart, Series
from repfold.report.figures import save_chart, save_images

CHART = Chart(
    "Rate, 5 $ to 6 $",
    (
        Series("one $a$", [0, 1, 2], [1.0, None, 3.0], low=[0.5, None, 2], high=[1.5, None, 4]),
        Series("two", [0, 1, 2], [2.0, 1.0, 0.5], style=1, dashed=True),
    ),
    x_label="epoch",
)


@pytest.mark.parametrize("ending", [".svg", ".png", ".pdf", ".PNG"])
def test_a_chart_becomes_the_same_file_each_time(tmp_path, ending):
    first, second = (save_chart(CHART, tmp_path / f"{name}{ending}").read_bytes() for name in "ab")
    assert first == second and len(first) > 1000


def test_a_chart_as_png_shows_both_colours(tmp_path):
    pixels = np.asarray(Image.open(save_chart(CHART, tmp_path / "chart.png")).convert("RGB")).reshape(-1, 3).tolist()
    shown = {tuple(pixel) for pixel in pixels}
    assert {(0x0B, 0x62, 0xC4), (0xC8, 0x44, 0x0A)} <= shown


def test_a_logarithmic_chart_is_drawn(tmp_path):
    chart = Chart("t", (Series("a", [0, 1, 2], [1e-4, 0.0, 1.0]),), log=True)
    assert Image.open(save_chart(chart, tmp_path / "log.png")).size[0] > 500


def test_a_sheet_shows_the_pixels_that_it_was_given(tmp_path):
    red = np.zeros((4, 4, 3), dtype=np.uint8) + np.array([255, 0, 0], dtype=np.uint8)
    gray = np.full((4, 4, 1), 120, dtype=np.uint8)
    path = save_images([red, gray, gray[..., 0]], tmp_path / "sheet.png", captions=["red", "$", "100 %"], columns=2)
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 0, 0)).all(axis=1).sum() > 1000
    assert (pixels == (120, 120, 120)).all(axis=1).sum() > 2000
    ElementTree.parse(save_images([gray], tmp_path / "sheet.svg"))


def test_mistakes_are_told(tmp_path):
    image = np.zeros((4, 4), dtype=np.uint8)
    with pytest.raises(RepFoldError, match=r"'\.jpg' is unknown.*\.png"):
        save_chart(CHART, tmp_path / "chart.jpg")
    with pytest.raises(RepFoldError, match="no finite value"):
        save_chart(Chart("t", (Series("a", [1], [float("nan")]),)), tmp_path / "chart.svg")
    with pytest.raises(RepFoldError, match="no images"):
        save_images([], tmp_path / "sheet.png")
    with pytest.raises(RepFoldError, match="2 captions were given for 1"):
        save_images([image], tmp_path / "sheet.png", captions=["a", "b"])
    for wrong in (image.astype(float), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(RepFoldError, match="Image 1 has type"):
            save_images([image, wrong], tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []
