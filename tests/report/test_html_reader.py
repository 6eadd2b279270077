"""The checker itself: each fault that it is there for must be found."""

import pytest
from tests.report.html_reader import Page


@pytest.mark.parametrize(
    "text",
    [
        "<p><b>crossed</p></b>",
        "<div>never closed",
        "</p>",
        "<p id=a></p><p id=a></p>",
        "<p class=a class=b></p>",
        "<div/>",
    ],
)
def test_a_malformed_page_is_found(text):
    assert Page(text).faults


@pytest.mark.parametrize(
    "text",
    [
        '<img src="https://example.org/a.png">',
        '<link rel="stylesheet" href="a.css">',
        "<style>@import 'a.css';</style>",
        "<style>p{background:url(a.png)}</style>",
        '<p style="background:url(//example.org/a.png)"></p>',
        '<p onclick="go()"></p>',
    ],
)
def test_a_request_is_found(text):
    assert Page(text).requests()


def test_a_sound_page_passes():
    page = Page('<p id="a">x &lt; <a href="#a">y</a><img src="data:,"></p><svg><path d="M0 0"/></svg>')
    assert page.faults == [] and page.requests() == []
    assert page.text() == "x <  y"
