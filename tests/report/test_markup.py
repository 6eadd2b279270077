import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st
from tests.report.html_reader import Page

from repfold.report.markup import Markup, escape, join, pixels, tag

# What XML 1.0 can hold; the rest is no text that a class could be called by in a page.
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"))


@given(TEXT, TEXT)
def test_any_text_comes_back_as_it_was_given(inside, attribute):
    element = ElementTree.fromstring(tag("p", inside, title=attribute))
    assert (element.text or "") == inside
    assert element.get("title") == attribute
    assert list(element) == []


def test_markup_is_not_escaped_again_and_text_always_is():
    assert tag("p", tag("b", "a<b"), " & ") == "<p><b>a&lt;b</b> &amp; </p>"
    assert join(["<", Markup("<br>"), None, 3], "<") == "&lt;&lt;<br>&lt;&lt;3"


def test_joining_markup_with_text_by_hand_gives_text_that_is_escaped():
    assert escape(tag("b", "a") + "<i>") == "&lt;b&gt;a&lt;/b&gt;&lt;i&gt;"


def test_attributes_are_left_out_renamed_and_rounded():
    written = tag("rect", class_="a", data_key=1, aria_label=None, x=0.123456, y=2.0)
    assert written == '<rect class="a" data-key="1" x="0.12" y="2"/>'
    assert Page(tag("svg", written)).faults == []


def test_coordinates_are_short():
    assert [pixels(value) for value in (12.0, 12.5, 12.345, -0.001, 1e3)] == ["12", "12.5", "12.35", "0", "1000"]
