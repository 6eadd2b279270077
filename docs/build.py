"""Build the site: the pages of docs/ and what is made of the code, in build/site. Any warning ends it.

    python docs/build.py

The pages are copied first: a link to a file of the repository that is no page becomes its path, the house's walk
(ARCHITECTURE.md) becomes a page, and the commands' help is written down.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS, PAGES = ROOT / "docs", ROOT / "build" / "pages"
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def main() -> int:
    """Return the exit code of the site's generator."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for source in sorted(path for path in DOCS.rglob("*") if path.is_file() and path.suffix != ".py"):
        copy(source, PAGES / source.relative_to(DOCS))
    copy(ROOT / "ARCHITECTURE.md", PAGES / "architecture.md")
    (PAGES / "commands.md").write_text(commands_page(), encoding="utf-8")
    return subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT).returncode


def copy(source: Path, target: Path) -> None:
    """Copy a page, its links mended for the site; other files as they are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".md":
        target.write_text(for_the_site(source), encoding="utf-8")
    else:
        shutil.copyfile(source, target)


def for_the_site(page: Path) -> str:
    """The text of a page in which links lead to pages of the site, to the web, or are paths in the repository.

    Raises: ValueError for a link to a file that does not exist.
    """

    def mended(found: re.Match[str]) -> str:
        text, target, anchor = found["text"], found["target"], found["anchor"] or ""
        if "://" in target:
            return found[0]
        linked = (page.parent / target).resolve()
        if not linked.exists():
            raise ValueError(f"{page.relative_to(ROOT)} links to {target}, which does not exist.")
        if linked.is_relative_to(DOCS) and linked.is_file() and linked.suffix != ".py":
            return f"[{text}]({os.path.relpath(linked, DOCS if page.parent == ROOT else page.parent)}{anchor})"
        path = f"`{linked.relative_to(ROOT)}`"
        return path if text.replace("\\", "") in path else f"{text} ({path})"

    return LINK.sub(mended, page.read_text(encoding="utf-8"))


def commands_page() -> str:
    """A page with what ``repfold COMMAND --help`` says of every command."""
    from repfold.cli import COMMANDS

    parts = ["# The command line\n\nWhat `repfold COMMAND --help` says.\n"]
    environment = os.environ | {"COLUMNS": "84", "TERM": "dumb", "NO_COLOR": "1"}
    for name in sorted(COMMANDS):
        command = [sys.executable, "-m", "repfold", name, "--help"]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        parts.append(f"## repfold {name}\n\n```text\n{said.strip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
