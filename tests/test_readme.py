"""The README's commands and Python run, in order, from an empty directory, on small data in place of the user's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.documents import commands, furnish, run, run_python

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory with the photos that the README speaks of, and a run of the demo's kind."""
    directory = tmp_path_factory.mktemp("readme")
    furnish(directory)
    run("repfold train digits --recipe digits --epochs 3 --out runs/demo", directory)
    return directory


def test_the_readme_has_commands():
    assert len(commands(README)) >= 5


def test_the_commands_run(place):
    for command in commands(README):
        run(command, place)


def test_the_python_runs(place):
    run_python(README, place)


def test_links_and_pictures_exist():
    for page in (README, README.parent / "ARCHITECTURE.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
