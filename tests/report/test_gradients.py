"""The picture of the masks: every layer's factors, and nothing where a run had no rules."""

import json

import pytest
from tests.report.html_reader import Page
from tests.report.run_files import write_run

from repfold import report
from repfold.report.masks import masks_of
from repfold.report.records import read_runs

CENTRE = [[0.25, 0.25, 0.25], [0.25, 1.5, 0.25], [0.25, 0.25, 0.25]]
HOSTILE = "</script><script>alert(1)</script>"


def layer(name="stem.conv", **changes):
    told = {"name": name, "kernel": [8, 3, 3, 3], "rule": "mask", "branches": ["kxk.weight", "point.weight"]}
    return told | {"low": 0.01, "high": 2.5, "elsewhere": CENTRE, "diagonal": None} | changes


def page_of(tmp_path, *layers, name="run"):
    run = write_run(tmp_path / name)
    (run / "rules.json").write_text(json.dumps({"layers": layers}))
    page = Page(report.write([run], tmp_path / f"{name}.html").read_text(encoding="utf-8"))
    assert page.faults == [] and page.requests() == []
    return page


def test_each_layer_is_drawn_with_its_taps_and_told_in_a_table(tmp_path):
    operator = layer("body.conv", rule="operator", low=None, high=None, elsewhere=None)
    page = page_of(tmp_path, layer(), layer("stage.conv", diagonal=CENTRE), operator)
    drawn = [a for a in page.having("svg") if "Mean gradient factors" in (a.get("aria-label") or "")]
    assert [a["aria-label"].split(":")[0] for a in drawn] == [
        "Mean gradient factors of stem.conv",
        "Mean gradient factors of stage.conv",
    ]
    text = page.text()
    assert "different channels" in text and "channel with itself" in text
    assert "an operator" in text and "8×3×3×3" in text and "kxk.weight, point.weight" in text
    assert "1.50 at tap 1, 1" in text or "1.5 at tap 1, 1" in text


def test_a_run_without_rules_has_no_such_section(tmp_path):
    page = Page(report.write([write_run(tmp_path / "run")], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "gradients" not in [a["id"] for a in page.having("section")]


def test_names_cannot_become_markup(tmp_path):
    page = page_of(tmp_path, layer(HOSTILE, branches=[HOSTILE]))
    harmless = page_of(tmp_path, layer(), name="harmless")
    assert len(page.having("script")) == len(harmless.having("script"))


@pytest.mark.parametrize(
    "kernel, grid, rows", [([4, 4], 2.0, ((2.0,),)), ([4, 4, 3], [1.0, 2.0, 1.0], ((1.0, 2.0, 1.0),))]
)
def test_kernels_of_fewer_axes_are_rows(kernel, grid, rows):
    (mask,) = masks_of({"layers": [layer(kernel=kernel, elsewhere=grid)]})
    assert mask.grids == (rows,)


def test_kernels_of_three_axes_are_told_and_not_drawn(tmp_path):
    page = page_of(tmp_path, layer(kernel=[4, 4, 3, 3, 3], elsewhere=[CENTRE] * 3))
    assert "4×4×3×3×3" in page.text()


@pytest.mark.parametrize("content", ["{", "{}", '{"layers": [{}]}', json.dumps({"layers": [layer(low=-1)]})])
def test_a_damaged_file_is_left_out_with_a_note(tmp_path, content):
    run = write_run(tmp_path / "run")
    (run / "rules.json").write_text(content)
    (read,) = read_runs([run])
    assert read.masks == () and any("rules.json cannot be read" in note for note in read.notes)
