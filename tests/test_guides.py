"""The guides' commands and Python run, guide after guide, in the directory of a reader who begins with the first."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from tests.documents import commands, furnish, run, run_python

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "docs" / "guides"
# In the order of the site. The first is where a reader begins: the others speak of what it leaves.
ORDER = ("quickstart", "fold", "fine-tune", "quantize", "deploy", "studies")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("guides")
    furnish(directory)
    return directory


@pytest.fixture(scope="module")
def site():
    specification = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_guide_is_run():
    assert sorted(ORDER) == sorted(path.stem for path in GUIDES.glob("*.md"))


@pytest.mark.guides
@pytest.mark.parametrize("name", ORDER)
def test_the_commands_and_the_python_run(place, name):
    guide = GUIDES / f"{name}.md"
    assert commands(guide)
    for command in commands(guide):
        run(command, place)
    run_python(guide, place)


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    text = (ROOT / "zensical.toml").read_text()
    tomllib.loads(text)
    listed = set(re.findall(r'"([\w/-]+\.md)"', text))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert listed == pages | {"architecture.md", "commands.md"}


def test_links_of_pages_lead_to_pages_or_become_paths(site):
    page = ROOT / "docs" / "threat-model.md"
    text = site.for_the_site(page)
    assert "(`tests/trust/test_security.py`)" in text or "`tests/trust/test_security.py`" in text
    assert "](../" not in text
    house = site.for_the_site(ROOT / "ARCHITECTURE.md")
    assert "](src/" not in house and "](docs/" not in house


def test_a_link_to_nowhere_is_refused(site, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("[here](nowhere.md)")
    with pytest.raises(ValueError, match=r"page.md links to nowhere.md"):
        site.for_the_site(page)
