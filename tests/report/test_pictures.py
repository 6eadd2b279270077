"""Pictures of mistakes on the page: shown, bounded, and nothing but pictures."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image
from tests.report.html_reader import Page
from tests.report.run_files import write_run

from repfold import report, run_files
from repfold.report.mistakes import mistakes_of
from repfold.report.results import read


def encoded(kind: str = "PNG") -> str:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 60)).save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


def record(count: int = 3, **changes) -> dict:
    one = {"true": 0, "predicted": 1, "true_probability": 0.01, "probability": 0.98, "map": encoded()}
    entries = [{**one, "name": f"tench/{i}.jpeg", "picture": encoded("JPEG")} for i in range(count)]
    indices = {"worst": list(range(count - 1)), "most_confident": [0, count - 1]}
    return {"classes": ["tench", "<i>dog"], "images": 150, "of": 150, "wrong": 40, "shown": entries} | indices | changes


def page_of(tmp_path, content, **options) -> Page:
    run = write_run(tmp_path / "run", epochs=2)
    (run / run_files.MISTAKES).write_text(json.dumps(content))
    page = Page(report.page.page(read([run], **options)))
    assert page.faults == [] and page.requests() == []
    return page


def test_the_pictures_are_in_the_page_with_what_was_said(tmp_path):
    page = page_of(tmp_path, record())
    assert len(page.having("img")) == 9  # the picture, it again in gray, and the map over it
    text = page.text()
    for words in ("40 of 150 validation images", "label that is wrong", "98.0 %", "<i>dog", "tench/2.jpeg"):
        assert words in text
    assert "1 of these 2 are among the worst above" in text


def test_without_pictures_no_image_of_the_data_is_in_the_page(tmp_path):
    page = page_of(tmp_path, record(), pictures=False)
    assert page.having("img") == [] and "tench/0.jpeg" not in page.text()


def test_several_runs_have_them_on_their_own_pages(tmp_path):
    runs = [write_run(tmp_path / name, epochs=2) for name in "ab"]
    for run in runs:
        (run / run_files.MISTAKES).write_text(json.dumps(record()))
    page = Page(report.page.page(read(runs)))
    assert page.having("img") == [] and "own page" in page.text()


def test_a_run_without_a_mistake_says_so(tmp_path):
    page = page_of(tmp_path, record(1, shown=[], worst=[], most_confident=[], wrong=0))
    assert "None of 150 validation images" in page.text()


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["tench"]},
        {"worst": [7]},
        {"shown": [{"name": "a", "true": 0, "predicted": 1, "true_probability": 0.1}]},
        {"shown": None},
        *(
            {"shown": [{**record()["shown"][0], **wrong}], "worst": [0], "most_confident": []}
            for wrong in (
                {"picture": base64.b64encode(b"<svg onload=alert(1)>").decode()},
                {"picture": 'x" onerror="alert(1)'},
                {"picture": "A" * 100_000},
                {"map": base64.b64encode(b"GIF89a").decode()},
                {"probability": 3.5},
                {"true": -1},
            )
        ),
    ],
)
def test_what_is_no_record_of_mistakes_is_left_out_with_a_note(tmp_path, changes):
    page = page_of(tmp_path, record(**changes))
    assert page.having("img") == [] and f"{run_files.MISTAKES} cannot be read" in page.text()


def test_a_forged_record_cannot_make_a_large_page():
    content = record(500, worst=[0], most_confident=[1])
    assert len(mistakes_of(content).worst) == 1
    with pytest.raises(ValueError, match="not there"):
        mistakes_of(record(500))
