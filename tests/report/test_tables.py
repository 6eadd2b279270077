import pytest
from tests.report.html_reader import Page

from repfold.report.markup import tag
from repfold.report.tables import Column, Table, bar, columns, to_html, to_text

TABLE = Table(columns("run", "#top-1"), (("warm-up <5>", "68.56"), ("猫|dog", "7.1")), "Best & last")


def test_text_is_aligned_by_terminal_cells():
    assert to_text(TABLE).splitlines() == [
        "Best & last",
        "run          top-1",
        "───────────  ─────",
        "warm-up <5>  68.56",
        "猫|dog         7.1",
    ]


def test_titles_that_make_a_table_too_wide_take_several_lines():
    table = Table(columns("arm", "#seeds to decide", "verdict of a kind"), (("none", "3", "holds"),))
    assert to_text(table, width=40).splitlines() == to_text(table).splitlines()  # 40 wide already
    assert to_text(table, width=39).splitlines() == [
        "       seeds  verdict",
        "          to  of a",
        "arm   decide  kind",
        "────  ──────  ───────",
        "none       3  holds",
    ]


def test_html_heads_columns_and_rows():
    page = Page(to_html(Table(TABLE.columns, TABLE.rows, TABLE.caption, marked=frozenset({1}))))
    assert page.faults == []
    assert [attributes.get("scope") for attributes in page.having("th")] == ["col", "col", "row", "row"]
    assert [attributes.get("class") for attributes in page.having("tr")] == [None, None, "marked"]
    assert "warm-up <5>" in page.text() and "Best & last" in page.text()


def test_a_row_of_another_length_is_a_mistake_of_ours():
    with pytest.raises(AssertionError):
        Table((Column("a"),), (("1", "2"),))


def test_a_cell_for_pages_is_not_written_as_text():
    with pytest.raises(AssertionError):
        to_text(Table((Column("a"),), ((tag("b", "x"),),)))


def test_bars_stay_within_their_column():
    written = bar(1.7, "far", low=0.5, high=9.0)
    assert "width:100.00%" in written and "left:50.00%;width:50.00%" in written
    assert "width:0.00%" in bar(-1.0, "below")
