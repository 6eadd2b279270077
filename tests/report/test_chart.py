import json
import math
import xml.etree.ElementTree as ElementTree

import pytest

from repfold.errors import RepFoldError
from repfold.report import palette
from repfold.report.chart import Chart, Series, axes, hover_data
from repfold.report.chart_svg import save_chart, svg, svg_file

NAN = math.nan


def lines(chart):
    """The drawn groups, each as (number of strokes of its line, markers, bands)."""
    drawn = [group for group in ElementTree.fromstring(svg(chart)).iter("g") if "series" in group.get("class", "")]
    found = []
    for group in drawn:
        paths = [path for path in group.iter("path")]
        stroke = next(path.get("d", "") for path in paths if path.get("class", "").startswith("line"))
        counts = [sum(path.get("class") == kind for path in paths) for kind in ("marker", "band")]
        found.append((stroke.count("M"), *counts))
    return found


def test_gaps_break_the_line_and_a_point_between_gaps_is_a_dot():
    series = Series("a", range(8), [1, 2, NAN, 3, None, 4, 5, math.inf])
    assert lines(Chart("t", (series,))) == [(3, 2, 0)]  # dots: the lone 3, and the end


def test_a_single_epoch_is_a_dot():
    assert lines(Chart("t", (Series("a", [1], [68.5]),), x_range=(0, 1))) == [(1, 1, 0)]


def test_a_band_has_a_polygon_for_each_stretch():
    band = {"low": [0, 1, None, 1, 1], "high": [2, 3, None, 3, 3]}
    assert lines(Chart("t", (Series("a", range(5), [1, 2, None, 2, 2], **band),)))[0][2] == 2


def test_a_logarithm_leaves_out_what_is_not_positive():
    chart = Chart("t", (Series("a", range(4), [1e-3, 0.0, -1.0, 10.0]),), log=True)
    assert lines(chart)[0][0] == 2
    assert [axes(chart).y_ticks[0], axes(chart).y_ticks[-1]] == [1e-3, 10.0]


def test_the_axes_span_lines_and_bands():
    chart = Chart("t", (Series("a", [0, 1], [5, 6], low=[1, 2], high=[9, 12]),))
    assert axes(chart).y_ticks[0] <= 1 and axes(chart).y_ticks[-1] >= 12


def test_lines_that_coincide_show_all_their_shapes():
    series = tuple(Series(str(i), range(40), [1.0] * 40, style=i) for i in range(3))
    drawing = ElementTree.fromstring(svg(Chart("t", series)))
    places = [
        {path.get("transform") for path in group.iter("path") if path.get("class") == "marker"}
        for group in drawing.iter("g")
        if "series" in group.get("class", "")
    ]
    last = set.intersection(*places)
    assert len(last) == 1 and all(len(place) > 4 for place in places)
    assert len(set.union(*places)) == sum(len(place - last) for place in places) + 1


def test_what_a_reader_hears_tells_where_the_lines_end():
    drawing = ElementTree.fromstring(svg(Chart("Loss", (Series("a & b", [1, 2], [3, 0.25]), Series("c", [1], [NAN])))))
    assert drawing.get("aria-label") == "Loss. a & b ends at 0.25; c has no values"


def test_hover_data_is_what_is_drawn():
    series = Series("a", [1, 2, 3], [0.1234567, NAN, 3], low=[0, None, 1], high=[1, None, 4], style=9)
    data = json.loads(json.dumps(hover_data(Chart("t", (series,), keys={False: "validation"})), allow_nan=False))
    assert data["series"][0]["y"] == [0.12346, None, 3]
    assert data["series"][0]["name"] == "a, validation"
    assert data["series"][0]["low"] == [0, None, 1]
    assert data["x"][:2] == [1, 3]


def test_a_file_of_its_own_has_title_legend_and_both_themes():
    text = svg_file(Chart("Rate <1>", (Series("one", [0, 1], [1, 2]), Series("two", [0, 1], [2, 1], style=1))))
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Rate <1>", "one", "two"} <= set(words)
    assert "prefers-color-scheme" in text


def test_a_chart_becomes_the_same_file_each_time(tmp_path):
    chart = Chart("Rate", (Series("one", [0, 1, 2], [1.0, None, 3.0]),), log=True)
    first, second = (save_chart(chart, tmp_path / f"{name}.SVG").read_bytes() for name in "ab")
    assert first == second and first.startswith(b"<svg")


def test_a_chart_that_cannot_be_written_says_why(tmp_path):
    chart = Chart("t", (Series("a", [1], [NAN]),))
    with pytest.raises(RepFoldError, match=r"drawn as \.svg, not '\.png'"):
        save_chart(chart, tmp_path / "chart.png")
    with pytest.raises(RepFoldError, match="no finite value"):
        save_chart(chart, tmp_path / "chart.svg")
    assert list(tmp_path.iterdir()) == []


def test_sixty_four_styles_differ_in_colour_or_shape():
    assert len({(palette.colour(style), palette.shape(style)) for style in range(64)}) == 64


@pytest.mark.parametrize(("colours", "page"), [(palette.LIGHT, "#ffffff"), (palette.DARK, palette.PAGE_DARK)])
def test_colours_stand_out_from_their_page(colours, page):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in colours:
        dark, light = sorted((luminance(colour), luminance(page)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour
