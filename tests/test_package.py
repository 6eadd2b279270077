"""``repfold.fold`` and ``repfold.expand`` are functions, whatever was imported before them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import repfold

ORDERS = (
    "from repfold.fold import Certificate; import repfold.expand",
    "from repfold import fold, expand; import repfold.fold.plan, repfold.expand",
)


@pytest.mark.parametrize("order", ORDERS)
def test_the_names_are_the_functions_in_any_order_of_imports(order: str) -> None:
    code = f"{order}; import repfold, inspect; assert all(map(inspect.isfunction, (repfold.fold, repfold.expand)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_shows_the_signature() -> None:
    assert list(inspect.signature(repfold.fold).parameters)[:3] == ["network", "example", "policy"]
    assert list(inspect.signature(repfold.expand).parameters)[:2] == ["network", "block"]
    assert "Raises:" in (repfold.fold.__doc__ or "")


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'folds'"):
        repfold.folds  # noqa: B018
