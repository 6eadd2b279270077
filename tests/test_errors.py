"""What is made of other libraries' exceptions."""

from __future__ import annotations

import pytest

from repfold.errors import first_line

OPENVINO = (
    "Exception from src/cpp/core.cpp:132:\nCheck 'exists(path)' failed at src/frontend.cpp:117:\nNo such file\n\n"
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("shapes differ\nat line 3"), "shapes differ"),
        (RuntimeError(OPENVINO), "No such file"),
        (RuntimeError("\n\n  late\n"), "late"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("Exception from a.cpp:1:\n"), "RuntimeError"),
        (RuntimeError("x" * 500), "x" * 199 + "…"),
    ],
)
def test_the_first_line_that_is_no_place_in_source_code(error, line):
    assert first_line(error) == line
